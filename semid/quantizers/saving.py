"""What a saved quantizer looks like: parameters, names of the arrays, and a card for people."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from semid._arrays import Array
from semid._checks import check_views
from semid.io.persistence import read_folder, write_folder
from semid.quantizers.shared_training import LearntViews
from semid.quantizers.stored import StoredArrays, check_n_levels, damage_as_format_error
from semid.quantizers.training import Learnt

__all__ = ["read_levels", "read_shared_specific", "write_levels", "write_shared_specific"]

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
