"""What a saved quantizer looks like: parameters, names of the arrays, and a card for people."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.errors import FormatError
from semid.io.persistence import read_folder, write_folder
from semid.quantizers.shared_training import LearntViews
from semid.quantizers.training import Learnt
from semid.quantizers.views import Scaling

__all__ = ["read_levels", "read_shared_specific", "write_levels", "write_shared_specific"]

Matrix = npt.NDArray[np.float32]
Books = tuple[Matrix, ...]

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
    write_folder(
        folder,
        class_name=class_name,
        config={**params, "codebook_size": sizes if "n_levels" in params else sizes[0]},
        arrays=arrays,
        card=LEVELS_CARD.format(class_name=class_name, dim=dim, n_levels=len(sizes), sizes=_join(sizes)),
    )


def read_levels(
    folder: str | os.PathLike[str], class_name: str, *, mmap: bool = False
) -> tuple[dict[str, Any], Learnt]:
    """Return the parameters and codebooks of a saved k-means quantizer; a FormatError if they do not fit together."""
    config, arrays = read_folder(folder, class_name=class_name, mmap=mmap)
    with _damage_as_format_error(folder):
        sizes = np.atleast_1d(config["codebook_size"]).tolist()
        codebooks = _levels(arrays, "codebook", sizes)
        counts = tuple(np.array(count, np.int64) for count in _levels(arrays, "counts", sizes))
        rotation, columns = arrays.get("rotation"), None
        if class_name == "ProductKMeans":
            ends = np.cumsum([book.shape[1] for book in codebooks]).tolist()
            columns = tuple(slice(first, last) for first, last in zip([0, *ends[:-1]], ends, strict=True))
            if rotation is not None and rotation.shape != (ends[-1], ends[-1]):
                raise ValueError(f"a rotation of shape {rotation.shape}, not {ends[-1]} columns")
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
    with _damage_as_format_error(folder):
        views, sizes, n_shared = tuple(config["views"]), config["codebook_size"], config["n_shared"]
        if len(sizes) != n_shared + config["n_specific"]:
            raise ValueError(f"{len(sizes)} codebook sizes, not {n_shared} + {config['n_specific']}")
        scaling = {
            view: Scaling(arrays[f"mean_{number}"], float(arrays[f"factor_{number}"][0]))
            for number, view in enumerate(views)
        }
        dims = [len(each.mean) for each in scaling.values()]
        learnt = LearntViews(
            scaling,
            _learnt(arrays, "shared", "shared_counts", sizes[:n_shared], dim=sum(dims)),
            {
                view: _learnt(
                    arrays, f"specific_{number}", f"specific_counts_{number}", sizes[n_shared:], dim=dims[number]
                )
                for number, view in enumerate(views)
            },
        )
    return config | {"views": views}, learnt


def _learnt(
    arrays: Mapping[str, npt.NDArray[Any]], books: str, counts: str, sizes: Sequence[int], *, dim: int
) -> Learnt:
    codebooks = _levels(arrays, books, sizes)
    if any(codebook.shape[1:] != (dim,) for codebook in codebooks):
        raise ValueError(f"codebooks {books} of shapes {[book.shape for book in codebooks]}, not of dim {dim}")
    return Learnt(codebooks, tuple(np.array(count, np.int64) for count in _levels(arrays, counts, sizes)))


def _name_levels(name: str, codebooks: Sequence[npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {f"{name}_{level}": codebook for level, codebook in enumerate(codebooks)}


def _levels(arrays: Mapping[str, npt.NDArray[Any]], name: str, sizes: Sequence[int]) -> Books:
    codebooks = tuple(arrays[f"{name}_{level}"] for level in range(len(sizes)))
    found = [len(codebook) for codebook in codebooks]
    if found != list(sizes):
        raise ValueError(f"codebooks of {found} codes, not {list(sizes)}")
    return codebooks


def _join(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))


@contextmanager
def _damage_as_format_error(folder: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (TypeError, KeyError, ValueError) as error:
        raise FormatError(
            f"{folder} is damaged: expected parameters and codebooks that belong together, got {type(error).__name__}: "
            f"{error}. Save it again."
        ) from error
