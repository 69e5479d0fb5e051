"""What a saved quantizer looks like: parameters, names of the arrays, and a card for people."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.errors import FormatError
from semid.io.persistence import read_folder, write_folder
from semid.quantizers.views import Scaling

__all__ = ["read_residual", "read_shared_specific", "write_residual", "write_shared_specific"]

Matrix = npt.NDArray[np.float32]
Books = tuple[Matrix, ...]

RESIDUAL_CARD = """\
# ResidualKMeans

A quantizer of semid: embeddings of {dim} dimensions to {n_levels} codes, with codebooks of {sizes} centroids.

```python
import semid

quantizer = semid.ResidualKMeans.from_pretrained("path/of/this/folder")
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


def write_residual(folder: str | os.PathLike[str], *, params: Mapping[str, Any], codebooks: Sequence[Matrix]) -> None:
    """Write a ResidualKMeans; `params` are those of its constructor."""
    sizes = params["codebook_size"]
    write_folder(
        folder,
        class_name="ResidualKMeans",
        config=params,
        arrays=_name_levels("codebook", codebooks),
        card=RESIDUAL_CARD.format(dim=codebooks[0].shape[1], n_levels=len(sizes), sizes=_join(sizes)),
    )


def read_residual(folder: str | os.PathLike[str], *, mmap: bool = False) -> tuple[dict[str, Any], Books]:
    """Return the parameters and codebooks of a saved ResidualKMeans; a FormatError if they do not fit together."""
    config, arrays = read_folder(folder, class_name="ResidualKMeans", mmap=mmap)
    with _damage_as_format_error(folder):
        codebooks = _levels(arrays, "codebook", config["codebook_size"])
    return config, codebooks


def write_shared_specific(
    folder: str | os.PathLike[str],
    *,
    params: Mapping[str, Any],
    scaling: Mapping[str, Scaling],
    shared: Sequence[Matrix],
    specific: Mapping[str, Sequence[Matrix]],
) -> None:
    """Write a SharedSpecificKMeans; `params` are those of its constructor."""
    views = list(params["views"])
    weights = params["view_weights"]
    arrays = _name_levels("shared", shared)
    for number, view in enumerate(views):  # numbers, since a view may have any name
        arrays[f"mean_{number}"] = scaling[view].mean
        arrays[f"factor_{number}"] = np.array([scaling[view].factor])
        arrays |= _name_levels(f"specific_{number}", specific[view])
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


def read_shared_specific(
    folder: str | os.PathLike[str], *, mmap: bool = False
) -> tuple[dict[str, Any], dict[str, Scaling], Books, dict[str, Books]]:
    """Return parameters, scaling, shared and specific codebooks of a saved SharedSpecificKMeans, or a FormatError."""
    config, arrays = read_folder(folder, class_name="SharedSpecificKMeans", mmap=mmap)
    with _damage_as_format_error(folder):
        views, sizes, n_shared = tuple(config["views"]), config["codebook_size"], config["n_shared"]
        scaling = {
            view: Scaling(arrays[f"mean_{number}"], float(arrays[f"factor_{number}"][0]))
            for number, view in enumerate(views)
        }
        shared = _levels(arrays, "shared", sizes[:n_shared])
        specific = {view: _levels(arrays, f"specific_{number}", sizes[n_shared:]) for number, view in enumerate(views)}
    return config | {"views": views}, scaling, shared, specific


def _name_levels(name: str, codebooks: Sequence[Matrix]) -> dict[str, npt.NDArray[Any]]:
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
