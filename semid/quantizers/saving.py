"""Folders of quantizers: what each of them writes, and what is checked when it is read."""

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, NamedTuple, Self, final

import numpy as np

from semid._arrays import Array, Int64Array, Matrix
from semid._checks import check_views
from semid.errors import FormatError
from semid.io.persistence import checksum_of, read_folder, write_folder
from semid.quantizers.learnt import Learnt, LearntViews, Scaling
from semid.quantizers.networks.layers import Fitted, FittedViews, Layer
from semid.quantizers.networks.options import CodeLearning, Training, recipe_from_config

__all__ = ["SavedQuantizer"]


@final
class StoredArrays:
    """What a folder holds, until it is taken; every method raises a KeyError or ValueError where it does not fit.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._left = dict(arrays)

    def __contains__(self, name: str) -> bool:
        return name in self._left

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

    def take_layers(self, name: str, widths: Sequence[int]) -> tuple[Layer, ...]:
        """Return the layers of a perceptron of those widths."""
        return tuple(
            Layer(self.take(f"{name}_{depth}_weight", pair), self.take(f"{name}_{depth}_bias", pair[1:]))
            for depth, pair in enumerate(itertools.pairwise(widths))
        )

    def check_none_left(self) -> None:
        """Raise a ValueError if there is an array that nobody took."""
        if self._left:
            raise ValueError(f"arrays {', '.join(sorted(self._left))} besides those of the parameters")


def check_n_levels(sizes: Sequence[int], n_levels: int) -> None:
    """Raise a ValueError unless there is one codebook size for each of one or more levels."""
    if not len(sizes) == n_levels > 0:
        raise ValueError(f"{len(sizes)} codebook sizes for {n_levels} levels")


def name_levels(name: str, codebooks: Sequence[Array]) -> dict[str, Array]:
    """Return what `StoredArrays.take_levels` and `take_counts` take."""
    return {f"{name}_{level}": codebook for level, codebook in enumerate(codebooks)}


def name_scaling(scaling: Scaling, suffix: str = "") -> dict[str, Array]:
    """Return what `StoredArrays.take_scaling` takes."""
    return {f"mean{suffix}": scaling.mean, f"factor{suffix}": np.array([scaling.factor])}


def name_layers(name: str, layers: Sequence[Layer]) -> dict[str, Array]:
    """Return what `StoredArrays.take_layers` takes."""
    arrays: dict[str, Array] = {}
    for depth, (weight, bias) in enumerate(layers):
        arrays |= {f"{name}_{depth}_weight": weight, f"{name}_{depth}_bias": bias}
    return arrays


# Each quantizer: what it learnt as named arrays, and back. Views go by number, since a view may have any name.


def pack_levels(learnt: Learnt) -> dict[str, Array]:
    """KMeans, ResidualKMeans and ProductKMeans."""
    arrays = name_levels("codebook", learnt.codebooks) | name_levels("counts", learnt.counts)
    return arrays if learnt.rotation is None else arrays | {"rotation": learnt.rotation}


def unpack_levels(config: Mapping[str, Any], stored: StoredArrays) -> Learnt:
    """KMeans and ResidualKMeans."""
    sizes = np.atleast_1d(config["codebook_size"]).tolist()
    check_n_levels(sizes, config.get("n_levels", 1))
    codebooks = stored.take_levels("codebook", sizes)
    dims = {book.shape[1] for book in codebooks}
    if len(dims) > 1:
        raise ValueError(f"codebooks of {sorted(dims)} dimensions, not of one number")
    return Learnt(codebooks, stored.take_counts("counts", sizes))


def unpack_parts(config: Mapping[str, Any], stored: StoredArrays) -> Learnt:
    """ProductKMeans, whose codebooks stand in columns of their own."""
    sizes = config["codebook_size"]
    check_n_levels(sizes, config["n_levels"])
    codebooks = stored.take_levels("codebook", sizes)
    ends = np.cumsum([book.shape[1] for book in codebooks]).tolist()
    return Learnt(
        codebooks,
        stored.take_counts("counts", sizes),
        rotation=stored.take("rotation", (ends[-1], ends[-1])) if "rotation" in stored else None,
        columns=tuple(slice(first, last) for first, last in zip([0, *ends[:-1]], ends, strict=True)),
    )


def pack_views(learnt: LearntViews) -> dict[str, Array]:
    """SharedSpecificKMeans."""
    arrays = name_levels("shared", learnt.shared.codebooks) | name_levels("shared_counts", learnt.shared.counts)
    for number, view in enumerate(learnt.scaling):
        arrays |= name_scaling(learnt.scaling[view], f"_{number}")
        arrays |= name_levels(f"specific_{number}", learnt.specific[view].codebooks)
        arrays |= name_levels(f"specific_counts_{number}", learnt.specific[view].counts)
    return arrays


def unpack_views(config: Mapping[str, Any], stored: StoredArrays) -> LearntViews:
    """SharedSpecificKMeans."""
    shared, specific = split_sizes(config)
    scaling = {view: stored.take_scaling(f"_{number}") for number, view in enumerate(config["views"])}
    dims = [len(each.mean) for each in scaling.values()]
    return LearntViews(
        scaling,
        Learnt(stored.take_levels("shared", shared, dim=sum(dims)), stored.take_counts("shared_counts", shared)),
        {
            view: Learnt(
                stored.take_levels(f"specific_{number}", specific, dim=dims[number]),
                stored.take_counts(f"specific_counts_{number}", specific),
            )
            for number, view in enumerate(scaling)
        },
    )


def pack_network(fitted: Fitted) -> dict[str, Array]:
    """RQVAE."""
    layers = name_layers("encoder", fitted.encoder) | name_layers("decoder", fitted.decoder)
    return name_scaling(fitted.scaling) | layers | name_levels("codebook", fitted.codebooks)


def unpack_network(config: Mapping[str, Any], stored: StoredArrays) -> Fitted:
    """RQVAE."""
    sizes = config["codebook_size"]
    check_n_levels(sizes, config["n_levels"])
    scaling = stored.take_scaling()
    widths = [len(scaling.mean), *config["hidden_sizes"], config["latent_dim"]]
    return Fitted(
        scaling,
        stored.take_layers("encoder", widths),
        stored.take_layers("decoder", widths[::-1]),
        stored.take_levels("codebook", sizes, dim=widths[-1]),
    )


def pack_views_network(fitted: FittedViews) -> dict[str, Array]:
    """SharedSpecificRQVAE."""
    arrays = name_levels("shared", fitted.shared)
    for number, view in enumerate(fitted.scaling):
        arrays |= name_scaling(fitted.scaling[view], f"_{number}")
        arrays |= name_layers(f"encoder_{number}", fitted.encoders[view])
        arrays |= name_layers(f"decoder_{number}", fitted.decoders[view])
        arrays |= name_levels(f"specific_{number}", fitted.specific[view])
    return arrays


def unpack_views_network(config: Mapping[str, Any], stored: StoredArrays) -> FittedViews:
    """SharedSpecificRQVAE."""
    shared, specific = split_sizes(config)
    dims = config["latent_dims"]
    scaling, encoders, decoders, books = {}, {}, {}, {}
    for number, view in enumerate(config["views"]):
        scaling[view] = stored.take_scaling(f"_{number}")
        widths = [len(scaling[view].mean), *config["hidden_sizes"], dims[number]]
        encoders[view] = stored.take_layers(f"encoder_{number}", widths)
        decoders[view] = stored.take_layers(f"decoder_{number}", widths[::-1])
        books[view] = stored.take_levels(f"specific_{number}", specific, dim=dims[number])
    return FittedViews(scaling, encoders, decoders, stored.take_levels("shared", shared, dim=sum(dims)), books)


def split_sizes(config: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Return the codebook sizes of the shared and of the specific levels."""
    sizes, n_shared = config["codebook_size"], config["n_shared"]
    check_n_levels(sizes, n_shared + config["n_specific"])
    return sizes[:n_shared], sizes[n_shared:]


class Layout(NamedTuple):
    """How a quantizer stands in a folder."""

    pack: Callable[[Any], dict[str, Array]]
    unpack: Callable[[Mapping[str, Any], StoredArrays], Any]
    card: str
    """What it does, for README.md."""
    extra: Callable[[Any], dict[str, Any]] = lambda learnt: {}
    """Entries of config.json that `unpack` needs besides the parameters."""
    trained: bool = False
    """Whether there is a history of epochs."""


History = list[dict[str, float]]


VIEW_CARD = "embeddings of {dim} dimensions to {n_levels} codes, with codebooks of {sizes} centroids"
VIEWS_CARD = (
    "the views {views} of an item to {n_shared} shared and {n_specific} specific codes, with\n"
    "codebooks of {sizes} centroids"
)
LAYOUTS = {
    "KMeans": Layout(pack_levels, unpack_levels, VIEW_CARD),
    "ResidualKMeans": Layout(pack_levels, unpack_levels, VIEW_CARD),
    "ProductKMeans": Layout(pack_levels, unpack_parts, VIEW_CARD),
    "SharedSpecificKMeans": Layout(pack_views, unpack_views, VIEWS_CARD),
    "RQVAE": Layout(
        pack_network, unpack_network, VIEW_CARD + " in a\nlatent space of {latent_dim} dimensions", trained=True
    ),
    "SharedSpecificRQVAE": Layout(
        pack_views_network,
        unpack_views_network,
        VIEWS_CARD + " in the latent spaces of its encoders",
        extra=lambda fitted: {"latent_dims": [len(layers[-1].bias) for layers in fitted.encoders.values()]},
        trained=True,
    ),
}
CARD = """\
# {class_name}

A quantizer of semid: {what}.

```python
import semid

quantizer = semid.{class_name}.from_pretrained("path/of/this/folder")
codes = quantizer.encode({embeddings})
```
"""
# Parameters that JSON does not give back as they were.
FROM_JSON: dict[str, Callable[[Any], Any]] = {
    "views": check_views,
    "hidden_sizes": tuple,
    "learning": lambda learning: learning and CodeLearning(**learning),
    "training": lambda training: training and Training(**training),
    "recipe": recipe_from_config,
}


class SavedQuantizer(ABC):
    """Base of every quantizer: how it goes into a folder and back."""

    @property
    def fingerprint(self) -> str:
        """Tell what was learnt, in 32 hexadecimal digits: codes of equal fingerprints mean the same.

        A fit, `partial_fit` and `refit` change it; saving and loading do not.
        """
        _, learnt, _ = self._to_save()
        arrays = LAYOUTS[type(self).__name__].pack(learnt)
        counts = {name: array for name, array in arrays.items() if "counts" not in name}  # they weigh later batches
        return checksum_of(type(self).__name__, counts)[:32]

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write what was learnt (safetensors), the parameters (config.json) and a README.md to a folder.

        Of a network, config.json also holds the history of the fit.

        Raises
        ------
        InvalidValueError
            If the folder holds anything but a saved object of semid, which is replaced.
        """
        layout, (params, learnt, history) = LAYOUTS[type(self).__name__], self._to_save()
        config = {name: asdict(value) if is_dataclass(value) else value for name, value in params.items()}  # type: ignore[arg-type]
        config |= layout.extra(learnt) | ({} if history is None else {"history": history})
        config["fingerprint"] = self.fingerprint
        sizes, views = np.atleast_1d(params["codebook_size"]).tolist(), params.get("views", ())
        shown = {"n_levels": len(sizes), "dim": getattr(self, "dim", None), **params}
        what = layout.card.format(**shown | {"sizes": _join(sizes), "views": _join(views)})
        embeddings = "{" + ", ".join(f"{view!r}: ..." for view in views) + "}" if views else "embeddings"
        card = CARD.format(class_name=type(self).__name__, what=what, embeddings=embeddings)
        write_folder(
            folder, class_name=type(self).__name__, config=config, arrays=layout.pack(learnt), card=card,
        )  # fmt: skip

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *, mmap: bool = False) -> Self:
        """Load what `save_pretrained` wrote; torch is not needed.

        Parameters
        ----------
        folder : path-like
        mmap : bool, default=False
            Map the arrays instead of reading them.

        Raises
        ------
        FormatError
            If a file is missing or damaged, the folder holds something else, or its parts do not belong together.
        """
        layout = LAYOUTS[cls.__name__]
        config, arrays = read_folder(folder, class_name=cls.__name__, mmap=mmap, verify=not mmap)
        try:
            config |= {name: convert(config[name]) for name, convert in FROM_JSON.items() if name in config}
            stored = StoredArrays(arrays)
            learnt = layout.unpack(config, stored)
            stored.check_none_left()
            config.pop("fingerprint", None)  # for those who read the folder without loading it
            params = {name: value for name, value in config.items() if name not in layout.extra(learnt)}
            history = params.pop("history") if layout.trained else None
            return cls(**params)._from_saved(learnt, history)
        except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
            raise FormatError(
                f"{folder} is damaged: expected parameters and arrays that belong together, got "
                f"{type(error).__name__}: {error}. Save it again."
            ) from error

    @abstractmethod
    def _to_save(self) -> tuple[dict[str, Any], Any, History | None]:
        """Return the parameters as learnt, what was learnt, and the history of a network."""

    @abstractmethod
    def _from_saved(self, learnt: Any, history: Any) -> Self:
        """Take what was learnt, and the history of a network."""


def _join(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
