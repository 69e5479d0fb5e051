"""Folders of quantizers: what each of them writes, and what is checked when it is read."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, final

import numpy as np

from semid._arrays import Array, Int64Array, Matrix
from semid._checks import check_views
from semid.errors import FormatError
from semid.io.persistence import read_folder, write_folder
from semid.quantizers.learnt import Learnt, LearntViews, Scaling
from semid.quantizers.networks.layers import Fitted, FittedViews, Layer
from semid.quantizers.networks.options import CodeLearning, Training, recipe_from_config, recipe_to_config

__all__ = [
    "damage_as_format_error",
    "read_levels",
    "read_rqvae",
    "read_shared_specific",
    "read_shared_specific_rqvae",
    "write_levels",
    "write_rqvae",
    "write_shared_specific",
    "write_shared_specific_rqvae",
]


@final
class StoredArrays:
    """What a folder holds, until it is taken; every method raises a KeyError or ValueError where it does not fit.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._left = dict(arrays)

    def take(self, name: str, shape: Sequence[int | None], *, dtype: str = "float32") -> Array:
        """Return a finite array of that shape, in which None stands for any size but 0."""
        array = self._left.pop(name)
        if array.ndim != len(shape) or any(
            size != expected if expected is not None else not size
            for size, expected in zip(array.shape, shape, strict=True)
        ):
            expected = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(f"{name} of shape {array.shape}, not ({expected}{',' * (len(shape) == 1)})")
        if array.dtype != dtype:
            raise ValueError(f"{name} of dtype {array.dtype}, not {dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} with values that are not finite")
        return array

    def take_levels(self, name: str, sizes: Sequence[int], *, dim: int | None = None) -> tuple[Matrix, ...]:
        """Return one codebook per level; without `dim`, each may have its own."""
        return tuple(self.take(f"{name}_{level}", (size, dim)) for level, size in enumerate(sizes))

    def take_counts(self, name: str, sizes: Sequence[int]) -> tuple[Int64Array, ...]:
        """Return, per level, the rows behind each code; copies, since `partial_fit` adds to them."""
        return tuple(np.array(self.take(f"{name}_{level}", (size,), dtype="int64")) for level, size in enumerate(sizes))

    def take_scaling(self, suffix: str = "") -> Scaling:
        """Return how embeddings are standardised."""
        factor = float(self.take(f"factor{suffix}", (1,), dtype="float64")[0])
        if not factor > 0:
            raise ValueError(f"factor{suffix} of {factor}, not above 0")
        return Scaling(self.take(f"mean{suffix}", (None,)), factor)

    def check_none_left(self) -> None:
        """Raise a ValueError if there is an array that nobody took."""
        if self._left:
            raise ValueError(f"arrays {', '.join(sorted(self._left))} besides those of the parameters")


def check_n_levels(sizes: Sequence[int], n_levels: int) -> None:
    """Raise a ValueError unless there is one codebook size for each of one or more levels."""
    if not len(sizes) == n_levels > 0:
        raise ValueError(f"{len(sizes)} codebook sizes for {n_levels} levels")


@contextmanager
def damage_as_format_error(
    folder: str | os.PathLike[str], expected: str = "parameters and codebooks"
) -> Iterator[None]:
    """Turn what goes wrong while a quantizer is put together from its parts into a FormatError."""
    try:
        yield
    except FormatError:
        raise
    except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
        raise FormatError(
            f"{folder} is damaged: expected {expected} that belong together, got {type(error).__name__}: {error}. Save "
            "it again."
        ) from error


LEVELS_CARD = """\
# {class_name}

A quantizer of semid: embeddings of {dim} dimensions to {n_levels} codes, with codebooks of {sizes} centroids.

```python
import semid

quantizer = semid.{class_name}.from_pretrained("path/of/this/folder")
codes = quantizer.encode(embeddings)
```
"""
SHARED_SPECIFIC_CARD = """\
# SharedSpecificKMeans

A quantizer of semid: the views {views} of an item to {n_shared} shared and {n_specific} specific codes, with
codebooks of {sizes} centroids.

```python
import semid

quantizer = semid.SharedSpecificKMeans.from_pretrained("path/of/this/folder")
codes = quantizer.encode({{{example}}})
```
"""


def write_levels(folder: str | os.PathLike[str], class_name: str, *, params: Mapping[str, Any], learnt: Learnt) -> None:
    """Write a k-means quantizer of one view; `params` are those of its constructor."""
    sizes = [len(book) for book in learnt.codebooks]
    dim = learnt.codebooks[0].shape[1] if learnt.columns is None else learnt.columns[-1].stop
    arrays = _name_levels("codebook", learnt.codebooks) | _name_levels("counts", learnt.counts)
    if learnt.rotation is not None:
        arrays["rotation"] = learnt.rotation
    # What was learnt, whatever `set_params` prepared for the next fit. KMeans has one level and no such parameter.
    one_level = "n_levels" not in params
    learnt_params = {"codebook_size": sizes[0]} if one_level else {"n_levels": len(sizes), "codebook_size": sizes}
    write_folder(
        folder,
        class_name=class_name,
        config={**params, **learnt_params},
        arrays=arrays,
        card=LEVELS_CARD.format(class_name=class_name, dim=dim, n_levels=len(sizes), sizes=_join(sizes)),
    )


def read_levels(
    folder: str | os.PathLike[str], class_name: str, *, mmap: bool = False
) -> tuple[dict[str, Any], Learnt]:
    """Return the parameters and codebooks of a saved k-means quantizer; a FormatError if they do not fit together."""
    config, arrays = read_folder(folder, class_name=class_name, mmap=mmap)
    with damage_as_format_error(folder):
        stored = StoredArrays(arrays)
        sizes = np.atleast_1d(config["codebook_size"]).tolist()
        check_n_levels(sizes, 1 if class_name == "KMeans" else config["n_levels"])
        codebooks = stored.take_levels("codebook", sizes)
        counts, rotation, columns = stored.take_counts("counts", sizes), None, None
        dims = {book.shape[1] for book in codebooks}
        if class_name != "ProductKMeans":
            if len(dims) > 1:
                raise ValueError(f"codebooks of {sorted(dims)} dimensions, not of one number")
        else:
            ends = np.cumsum([book.shape[1] for book in codebooks]).tolist()
            columns = tuple(slice(first, last) for first, last in zip([0, *ends[:-1]], ends, strict=True))
            if "rotation" in arrays:
                rotation = stored.take("rotation", (ends[-1], ends[-1]))
        stored.check_none_left()
    return config, Learnt(codebooks, counts, rotation=rotation, columns=columns)


def write_shared_specific(folder: str | os.PathLike[str], *, params: Mapping[str, Any], learnt: LearntViews) -> None:
    """Write a SharedSpecificKMeans; `params` are those of its constructor."""
    views = list(params["views"])
    weights = params["view_weights"]
    arrays = _name_levels("shared", learnt.shared.codebooks) | _name_levels("shared_counts", learnt.shared.counts)
    for number, view in enumerate(views):  # numbers, since a view may have any name
        arrays[f"mean_{number}"] = learnt.scaling[view].mean
        arrays[f"factor_{number}"] = np.array([learnt.scaling[view].factor])
        arrays |= _name_levels(f"specific_{number}", learnt.specific[view].codebooks)
        arrays |= _name_levels(f"specific_counts_{number}", learnt.specific[view].counts)
    write_folder(
        folder,
        class_name="SharedSpecificKMeans",
        config={**params, "views": views, "view_weights": weights and dict(weights)},
        arrays=arrays,
        card=SHARED_SPECIFIC_CARD.format(
            views=_join(views),
            n_shared=params["n_shared"],
            n_specific=params["n_specific"],
            sizes=_join(params["codebook_size"]),
            example=", ".join(f"{view!r}: ..." for view in views),
        ),
    )


def read_shared_specific(folder: str | os.PathLike[str], *, mmap: bool = False) -> tuple[dict[str, Any], LearntViews]:
    """Return the parameters and what a saved SharedSpecificKMeans has learnt, or a FormatError."""
    config, arrays = read_folder(folder, class_name="SharedSpecificKMeans", mmap=mmap)
    with damage_as_format_error(folder):
        stored = StoredArrays(arrays)
        views, sizes, n_shared = check_views(config["views"]), config["codebook_size"], config["n_shared"]
        check_n_levels(sizes, n_shared + config["n_specific"])
        scaling = {view: stored.take_scaling(f"_{number}") for number, view in enumerate(views)}
        dims = [len(each.mean) for each in scaling.values()]
        learnt = LearntViews(
            scaling,
            _learnt(stored, "shared", "shared_counts", sizes[:n_shared], dim=sum(dims)),
            {
                view: _learnt(
                    stored, f"specific_{number}", f"specific_counts_{number}", sizes[n_shared:], dim=dims[number]
                )
                for number, view in enumerate(views)
            },
        )
        stored.check_none_left()
    return config | {"views": views}, learnt


def _learnt(stored: StoredArrays, books: str, counts: str, sizes: Sequence[int], *, dim: int) -> Learnt:
    return Learnt(stored.take_levels(books, sizes, dim=dim), stored.take_counts(counts, sizes))


def _name_levels(name: str, codebooks: Sequence[Array]) -> dict[str, Array]:
    return {f"{name}_{level}": codebook for level, codebook in enumerate(codebooks)}


def _join(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


History = list[dict[str, float]]

CARD = """\
# RQVAE

A quantizer of semid: embeddings of {dim} dimensions to {n_levels} codes, with codebooks of {sizes} centroids in a
latent space of {latent_dim} dimensions.

```python
import semid

quantizer = semid.RQVAE.from_pretrained("path/of/this/folder")
codes = quantizer.encode(embeddings)
```
"""


def write_rqvae(folder: str | os.PathLike[str], *, params: Mapping[str, Any], fitted: Fitted, history: History) -> None:
    """Write an RQVAE; `params` are those of its constructor."""
    sizes = params["codebook_size"]
    arrays: dict[str, Array] = {
        "mean": fitted.scaling.mean, "factor": np.array([fitted.scaling.factor]),
    }  # fmt: skip
    for name, layers in (("encoder", fitted.encoder), ("decoder", fitted.decoder)):
        for depth, layer in enumerate(layers):
            arrays |= {f"{name}_{depth}_weight": layer.weight, f"{name}_{depth}_bias": layer.bias}
    arrays |= {f"codebook_{level}": codebook for level, codebook in enumerate(fitted.codebooks)}
    learning, training = params["learning"], params["training"]
    write_folder(
        folder,
        class_name="RQVAE",
        config={
            **params,
            "hidden_sizes": list(params["hidden_sizes"]),
            "learning": learning and asdict(learning),
            "training": training and asdict(training),
            "history": history,
        },
        arrays=arrays,
        card=CARD.format(
            dim=len(fitted.scaling.mean),
            n_levels=len(sizes),
            sizes=", ".join(map(str, sizes)),
            latent_dim=params["latent_dim"],
        ),
    )


def read_rqvae(folder: str | os.PathLike[str], *, mmap: bool = False) -> tuple[dict[str, Any], Fitted, History]:
    """Return parameters, weights and history of a saved RQVAE; a FormatError if they do not fit together."""
    config, arrays = read_folder(folder, class_name="RQVAE", mmap=mmap)
    with damage_as_format_error(folder, "parameters, layers and codebooks"):
        stored = StoredArrays(arrays)
        history, sizes = config.pop("history"), config["codebook_size"]
        check_n_levels(sizes, config["n_levels"])
        scaling = stored.take_scaling()
        widths = [len(scaling.mean), *config["hidden_sizes"], config["latent_dim"]]
        fitted = Fitted(
            scaling,
            take_layers(stored, "encoder", widths),
            take_layers(stored, "decoder", widths[::-1]),
            stored.take_levels("codebook", sizes, dim=widths[-1]),
        )
        stored.check_none_left()
        if config["learning"] is not None:
            config["learning"] = CodeLearning(**config["learning"])
        if config["training"] is not None:
            config["training"] = Training(**config["training"])
    return config, fitted, history


def take_layers(stored: StoredArrays, name: str, widths: Sequence[int]) -> tuple[Layer, ...]:
    """Return the layers of those widths; as all of `StoredArrays`, it raises where they do not fit."""
    return tuple(
        Layer(stored.take(f"{name}_{depth}_weight", pair), stored.take(f"{name}_{depth}_bias", pair[1:]))
        for depth, pair in enumerate(itertools.pairwise(widths))
    )


VIEWS_CARD = """\
# SharedSpecificRQVAE

A quantizer of semid: the views {views} of an item to {n_shared} shared and {n_specific} specific codes, with
codebooks of {sizes} centroids in the latent spaces of its encoders.

```python
import semid

quantizer = semid.SharedSpecificRQVAE.from_pretrained("path/of/this/folder")
codes = quantizer.encode({{{example}}})
```
"""


def write_shared_specific_rqvae(
    folder: str | os.PathLike[str], *, params: Mapping[str, Any], fitted: FittedViews, history: History
) -> None:
    """Write a SharedSpecificRQVAE; `params` are those of its constructor."""
    views, weights = list(params["views"]), params["view_weights"]
    arrays = {f"shared_{level}": book for level, book in enumerate(fitted.shared)}
    for number, view in enumerate(views):  # numbers, since a view may have any name
        arrays |= {f"mean_{number}": fitted.scaling[view].mean, f"factor_{number}": np.array([fitted.scaling[view][1]])}
        for name, layers in (("encoder", fitted.encoders[view]), ("decoder", fitted.decoders[view])):
            for depth, (weight, bias) in enumerate(layers):
                arrays |= {f"{name}_{number}_{depth}_weight": weight, f"{name}_{number}_{depth}_bias": bias}
        arrays |= {f"specific_{number}_{level}": book for level, book in enumerate(fitted.specific[view])}
    config = {
        **params,
        "views": views,
        "view_weights": weights and dict(weights),
        "hidden_sizes": list(params["hidden_sizes"]),
        "recipe": recipe_to_config(params["recipe"]),
        "latent_dims": [len(fitted.encoders[view][-1].bias) for view in views],
        "history": history,
    }
    write_folder(
        folder,
        class_name="SharedSpecificRQVAE",
        config=config,
        arrays=arrays,
        card=VIEWS_CARD.format(
            views=", ".join(views),
            n_shared=params["n_shared"],
            n_specific=params["n_specific"],
            sizes=", ".join(map(str, params["codebook_size"])),
            example=", ".join(f"{view!r}: ..." for view in views),
        ),
    )


def read_shared_specific_rqvae(
    folder: str | os.PathLike[str], *, mmap: bool = False
) -> tuple[dict[str, Any], FittedViews, History]:
    """Return parameters, weights and history of a saved SharedSpecificRQVAE; a FormatError if they do not fit."""
    config, arrays = read_folder(folder, class_name="SharedSpecificRQVAE", mmap=mmap)
    with damage_as_format_error(folder, "parameters, layers and codebooks"):
        stored = StoredArrays(arrays)
        history, latent_dims = config.pop("history"), config.pop("latent_dims")
        config |= {"views": check_views(config["views"]), "hidden_sizes": tuple(config["hidden_sizes"])}
        config["recipe"] = recipe_from_config(config["recipe"])
        sizes, n_shared = config["codebook_size"], config["n_shared"]
        check_n_levels(sizes, n_shared + config["n_specific"])
        numbers = {view: number for number, view in enumerate(config["views"])}
        scaling = {view: stored.take_scaling(f"_{number}") for view, number in numbers.items()}
        widths = {
            view: [len(scaling[view].mean), *config["hidden_sizes"], latent_dims[number]]
            for view, number in numbers.items()
        }
        fitted = FittedViews(
            scaling=scaling,
            encoders={view: take_layers(stored, f"encoder_{number}", widths[view]) for view, number in numbers.items()},
            decoders={view: take_layers(stored, f"decoder_{number}", widths[view][::-1])
                      for view, number in numbers.items()},
            shared=stored.take_levels("shared", sizes[:n_shared], dim=sum(latent_dims)),
            specific={view: stored.take_levels(f"specific_{number}", sizes[n_shared:], dim=latent_dims[number])
                      for view, number in numbers.items()},
        )  # fmt: skip
        stored.check_none_left()
    return config, fitted, history
