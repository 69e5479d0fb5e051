"""Checks of what a catalogue is given; each message names the items."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.catalog.item_keys import ItemKeys
from semid.errors import InvalidValueError
from semid.trie import Trie
from semid.trie.build import sort_unique

__all__ = ["by_view", "compact", "contained", "different_lengths", "listed", "refuse_collisions", "shown", "title"]

CodeArray = npt.NDArray[np.unsignedinteger[Any]]
IntArray = npt.NDArray[np.int64]


def refuse_collisions(view: str | None, codes: CodeArray, codebook_sizes: Sequence[int], keys: ItemKeys) -> None:
    """Raise if two items of a view have the same codes."""
    if len(sort_unique(codes, codebook_sizes)) == len(codes):
        return
    order = np.lexsort(codes.T[::-1])
    alike = np.flatnonzero((codes[order[1:]] == codes[order[:-1]]).all(axis=1))
    first, second = keys.at(order[alike[0] : alike[0] + 2])
    raise InvalidValueError(
        f"{title(view)} collide: expected unique rows, got {codes[order[alike[0]]].tolist()} for {first!r} and "
        f"{second!r} ({len(alike)} such pairs). Make them unique with semid.resolve."
    )


def by_view(given: Any) -> dict[str | None, Any]:
    """Return what was given per view; without views, under None."""
    if not isinstance(given, Mapping):
        return {None: given}
    if not given or not all(isinstance(view, str) for view in given):
        raise InvalidValueError(f"views are wrong: expected names, got {list(given)}. Name at least one view by a str.")
    return dict(given)


def compact(codes: npt.NDArray[np.integer[Any]], codebook_sizes: Sequence[int]) -> CodeArray:
    """Return a copy of codes in the smallest unsigned dtype, in C order."""
    return np.array(codes, np.min_scalar_type(max(codebook_sizes) - 1), order="C")


def contained(rows: CodeArray, others: CodeArray, codebook_sizes: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Tell which rows are among others; neither repeats a row."""
    found: npt.NDArray[np.bool_] = Trie.from_codes(others, codebook_sizes=codebook_sizes).rank(rows) >= 0
    return found


def title(view: str | None) -> str:
    """Return the name of a view's codes for a message."""
    return "codes" if view is None else f"codes of view {view!r}"


def different_lengths(view: str | None, n_ids: int, n_rows: int) -> InvalidValueError:
    """Return the error for too few or too many rows."""
    return InvalidValueError(
        f"{title(view)} and item_ids have different lengths: expected {n_ids} rows, got {n_rows}. Give one row per id."
    )


def listed(ids: IntArray | list[Any]) -> list[Any]:
    """Return ids as a list."""
    return ids.tolist() if isinstance(ids, np.ndarray) else ids


def shown(values: Sequence[Any]) -> str:
    """Return the first few values as text for a message."""
    shown = [value.item() if isinstance(value, np.generic) else value for value in values[:5]]
    return f"{shown}{f' and {len(values) - 5} more' if len(values) > 5 else ''}"
