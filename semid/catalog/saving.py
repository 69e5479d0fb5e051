"""The folder of a saved catalogue: ids, codes, retired codes, history, and a checksum over all of it."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from semid._arrays import Array
from semid.catalog.contents import Contents
from semid.catalog.item_keys import IntKeys, StrKeys
from semid.catalog.pairing import Identity
from semid.errors import FormatError
from semid.io.persistence import read_folder, write_folder

__all__ = ["read_catalogue", "write_catalogue"]

# The version of the arrays; FORMAT_VERSION is that of all saved folders.
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


def write_catalogue(folder: str | os.PathLike[str], contents: Contents, identity: Identity, *, text: str) -> None:
    """Write a catalogue and its identity, whole or not at all; `text` describes it in the folder's card."""
    views = list(contents.codes)
    config: dict[str, Any] = {
        "layout": LAYOUT,
        "views": views,
        "codebook_sizes": [list(contents.codebook_sizes[view]) for view in views],
        "generation": contents.generation,
        "last_reuse": contents.last_reuse,
        "quantizer": contents.quantizer,
        "history": [[generation, fingerprint] for generation, fingerprint in identity.history.items()],
    }
    arrays = contents.keys.saved_arrays()
    for number, view in enumerate(views):  # numbers, since a view may have any name
        of_view: dict[str, Any] = {"codes": contents.codes, "order": contents.order, "retired": contents.retired}
        arrays |= {f"{name}.{number}": by_view[view] for name, by_view in of_view.items()}
    write_folder(
        folder,
        class_name="SemanticIds",
        config=config,
        arrays=arrays,
        card=CARD.format(text=text, fingerprint=identity.fingerprint),
    )


def read_catalogue(folder: str | os.PathLike[str], *, mmap: bool, verify: bool) -> tuple[Contents, dict[int, str]]:
    """Read what `write_catalogue` wrote.

    Raises
    ------
    FormatError
        If the folder is missing, damaged, of another version or class, or, with `verify`, changed since it was saved.
    """

    def check_layout(config: Mapping[str, Any]) -> None:
        if config.get("layout") != LAYOUT:
            raise FormatError(
                f"{folder} has another layout: expected {LAYOUT}, got {config.get('layout', 1)}. Load it with the "
                "semid version named in its config.json, and make a new catalogue from its ids and codes."
            )

    config, arrays = read_folder(
        folder, class_name="SemanticIds", mmap=mmap, verify=verify, needs_checksum=True, check=check_layout
    )
    try:
        return _restore(config, arrays, verify=verify)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise FormatError(
            f"{folder} is damaged: expected item ids and their codes, got {type(error).__name__}: {error}. "
            "Save the catalogue again."
        ) from error


def _restore(
    config: Mapping[str, Any], arrays: Mapping[str, Array], *, verify: bool
) -> tuple[Contents, dict[int, str]]:
    views = config["views"]
    sizes = {view: tuple(sizes) for view, sizes in zip(views, config["codebook_sizes"], strict=True)}
    codes, order, retired = (
        {view: arrays[f"{name}.{number}"] for number, view in enumerate(views)}
        for name in ("codes", "order", "retired")
    )
    keys = (IntKeys if "item_ids.ordered" in arrays else StrKeys).from_arrays(arrays, verify=verify)
    for view in views:
        shape, ordered = (len(keys), len(sizes[view])), (len(keys),)
        if codes[view].shape != shape or order[view].shape != ordered or retired[view].shape[1:] != shape[1:]:
            raise ValueError("codes and item ids do not match")
        if verify:
            _check_codes(codes[view], retired[view], order[view], sizes[view])
    history = {int(generation): str(fingerprint) for generation, fingerprint in config["history"]}
    generation, last_reuse = int(config["generation"]), int(config["last_reuse"])
    quantizer = config.get("quantizer")
    if not isinstance(quantizer, str | None):
        raise ValueError(f"a quantizer {quantizer!r}")
    return Contents(keys, sizes, codes, order, retired, generation, last_reuse, quantizer), history


def _check_codes(codes: Array, retired: Array, order: Array, sizes: tuple[int, ...]) -> None:
    """Raise a ValueError unless codes lie in their codebooks, and `order` sorts them without an equal pair."""
    if any(not isinstance(size, int) or not 0 < size <= 1 << 32 for size in sizes):
        raise ValueError(f"codebook sizes {sizes}")
    for rows in (codes, retired):
        if rows.dtype.kind != "u" or (len(rows) and (rows.max(axis=0) >= np.array(sizes)).any()):
            raise ValueError("codes outside their codebooks")
    n_items = len(codes)
    if order.dtype.kind not in "iu" or (n_items and not 0 <= int(order.min()) <= int(order.max()) < n_items):
        raise ValueError("ranks that are no positions")
    # Strictly ascending rows are all different, and so are the positions that give them.
    ordered = codes[order]
    ascends, equal = np.zeros(max(n_items - 1, 0), np.bool_), np.ones(max(n_items - 1, 0), np.bool_)
    for column in ordered.T:
        ascends |= equal & (column[1:] > column[:-1])
        equal &= column[1:] == column[:-1]
    if not ascends.all():
        raise ValueError("ranks that do not sort the codes")
