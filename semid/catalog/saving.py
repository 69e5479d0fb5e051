"""What a saved catalogue looks like: ids, codes, retired codes, history, and a checksum over all of it."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid.catalog.fingerprint import checksum
from semid.catalog.item_keys import IntKeys, ItemKeys, StrKeys
from semid.errors import FormatError
from semid.io.persistence import read_folder, write_folder

__all__ = ["Saved", "read_catalogue", "write_catalogue"]

CodeArray = npt.NDArray[np.unsignedinteger[Any]]
# Of the arrays; FORMAT_VERSION counts changes of all saved folders.
LAYOUT = 2

CARD = """\
# Semantic IDs

{text}

Fingerprint {fingerprint}.

```python
import semid

sids = semid.SemanticIds.from_pretrained("path/of/this/folder")
```
"""


class Saved(NamedTuple):
    """All that a catalogue consists of; arrays per view."""

    keys: ItemKeys
    codebook_sizes: dict[str | None, tuple[int, ...]]
    codes: dict[str | None, CodeArray]
    order: dict[str | None, npt.NDArray[np.integer[Any]]]
    retired: dict[str | None, CodeArray]
    generation: int
    last_reuse: int
    history: dict[int, str]


def write_catalogue(folder: str | os.PathLike[str], saved: Saved, *, text: str) -> None:
    """Write a catalogue, whole or not at all; `text` is for people."""
    views = list(saved.codes)
    config: dict[str, Any] = {
        "layout": LAYOUT,
        "views": views,
        "codebook_sizes": [list(saved.codebook_sizes[view]) for view in views],
        "generation": saved.generation,
        "last_reuse": saved.last_reuse,
        "history": [[generation, fingerprint] for generation, fingerprint in saved.history.items()],
    }
    arrays = saved.keys.arrays()
    for number, view in enumerate(views):  # numbers, since a view may have any name
        of_view: dict[str, Any] = {"codes": saved.codes, "order": saved.order, "retired": saved.retired}
        arrays |= {f"{name}.{number}": by_view[view] for name, by_view in of_view.items()}
    write_folder(
        folder,
        class_name="SemanticIds",
        config=config | {"checksum": checksum(config, arrays)},
        arrays=arrays,
        card=CARD.format(text=text, fingerprint=saved.history[saved.generation]),
    )


def read_catalogue(folder: str | os.PathLike[str], *, mmap: bool, verify: bool) -> Saved:
    """Read what `write_catalogue` wrote.

    Raises
    ------
    FormatError
        If the folder is missing, damaged, of another version or class, or, with `verify`, not as it was written.
    """
    config, arrays = read_folder(folder, class_name="SemanticIds", mmap=mmap)
    if config.get("layout") != LAYOUT:
        raise FormatError(
            f"{folder} has another layout: expected {LAYOUT}, got {config.get('layout', 1)}. Load it with the semid "
            "version named in its config.json, and make a new catalogue from its ids and codes."
        )
    expected = config.pop("checksum", None)
    if verify and (found := checksum(config, arrays)) != expected:
        raise FormatError(
            f"{folder} is not as it was saved: expected checksum {expected}, got {found}. A file was changed or "
            "damaged: save the catalogue again, or copy the folder again."
        )
    try:
        return _restore(config, arrays)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(
            f"{folder} is damaged: expected item ids and their codes, got {type(error).__name__}: {error}. "
            "Save the catalogue again."
        ) from error


def _restore(config: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Saved:
    views = config["views"]
    sizes = {view: tuple(sizes) for view, sizes in zip(views, config["codebook_sizes"], strict=True)}
    codes, order, retired = (
        {view: arrays[f"{name}.{number}"] for number, view in enumerate(views)}
        for name in ("codes", "order", "retired")
    )
    keys = (IntKeys if "item_ids.ordered" in arrays else StrKeys).from_arrays(arrays)
    for view in views:
        shape, ordered = (len(keys), len(sizes[view])), (len(keys),)
        if codes[view].shape != shape or order[view].shape != ordered or retired[view].shape[1:] != shape[1:]:
            raise ValueError("codes and item ids do not match")
    history = {int(generation): str(fingerprint) for generation, fingerprint in config["history"]}
    return Saved(
        keys, sizes, codes, order, retired, int(config["generation"]), int(config["last_reuse"]), history
    )  # fmt: skip
