"""Checks of what a catalogue is given; each message names the items."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from semid._arrays import BoolArray, CodeArray, IntArray
from semid.catalog.messages import title
from semid.errors import InvalidValueError
from semid.io.matrices import code_dtype
from semid.trie import Trie

__all__ = ["by_view", "compact", "contained", "lexicographic_order", "refuse_collisions"]


def lexicographic_order(codes: CodeArray, codebook_sizes: Sequence[int]) -> IntArray:
    """Return the row of each rank, shape (n_items,), in the smallest of uint32 and int64; equal rows keep their order.

    Rows are packed into one key of 64 bits where they fit, as `semid.trie.sorting` does.
    """
    bits = [max(1, (size - 1).bit_length()) for size in codebook_sizes]
    if sum(bits) > 64:
        order = np.lexsort(codes.T[::-1])
    else:
        key: CodeArray = np.zeros(len(codes), np.uint32 if sum(bits) <= 32 else np.uint64)
        for level, n_bits in enumerate(bits):
            key <<= n_bits % (8 * key.itemsize)  # one level of 64 bits: nothing to make room for
            key |= codes[:, level].astype(key.dtype)
        order = np.argsort(key, kind="stable")
    return order.astype(np.uint32 if len(codes) < 2**32 else np.int64)


def refuse_collisions(view: str | None, codes: CodeArray, order: IntArray, item_id_at: Callable[[int], Any]) -> None:
    """Raise if two items of a view have the same codes; `order` as `lexicographic_order` gives it."""
    rows = codes[order]
    alike = np.flatnonzero((rows[1:] == rows[:-1]).all(axis=1))
    if len(alike):
        first, second = (item_id_at(int(position)) for position in order[alike[0] : alike[0] + 2])
        raise InvalidValueError(
            f"{title(view)} collide: expected unique rows, got {rows[alike[0]].tolist()} for {first!r} and "
            f"{second!r} ({len(alike)} such pairs). Make them unique with semid.resolve."
        )


def by_view(given: Any) -> dict[str | None, Any]:
    """Return what was given per view; without views, under None."""
    if not isinstance(given, Mapping):
        return {None: given}
    if not given or not all(isinstance(view, str) for view in given):
        raise InvalidValueError(f"views are wrong: expected names, got {list(given)}. Name at least one view by a str.")
    return dict(given)


def compact(codes: IntArray, codebook_sizes: Sequence[int]) -> CodeArray:
    """Return a copy of codes in the smallest unsigned dtype, in C order."""
    return np.array(codes, code_dtype(max(codebook_sizes)), order="C")


def contained(rows: CodeArray, others: CodeArray, codebook_sizes: Sequence[int]) -> BoolArray:
    """Tell which rows are among others; neither repeats a row."""
    found: BoolArray = Trie.from_codes(others, codebook_sizes=codebook_sizes).rank(rows) >= 0
    return found
