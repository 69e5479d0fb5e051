"""New tries of old ones: the union of two, or one after items came and went."""

from typing import TYPE_CHECKING, Any

import numpy as np

from semid._arrays import BoolArray, CodeArray, IntArray
from semid.errors import InvalidValueError
from semid.trie.build import build_levels
from semid.trie.checks import check_code_rows, sizes_of
from semid.trie.levels import Levels
from semid.trie.reading import all_codes
from semid.trie.restriction import EVERYTHING, Alive, alive_from

if TYPE_CHECKING:
    from semid.trie.trie import Trie

__all__ = ["merge", "update"]


def merge(trie: "Trie", other: Any) -> tuple[Levels, tuple[int, ...]]:
    """Return the arrays and codebook sizes of `Trie.merge`."""
    if not isinstance(other, type(trie)) or other.n_levels != trie.n_levels:
        got = f"{other.n_levels} levels" if isinstance(other, type(trie)) else type(other).__name__
        raise InvalidValueError(f"tries do not merge: expected a Trie of {trie.n_levels} levels, got {got}.")
    sizes = tuple(map(max, trie.codebook_sizes, other.codebook_sizes))
    rows = np.concatenate([_reached(one) for one in (trie, other)])
    if not len(rows):
        raise InvalidValueError("nothing to merge: expected at least 1 item, got 0. Both tries are restricted to none.")
    return build_levels(rows, sizes, warn=False), sizes


def update(trie: "Trie", added: Any, removed: Any) -> tuple[Levels, Alive]:
    """Return the arrays of `Trie.update`."""
    whole = type(trie)(trie._levels, trie.codebook_sizes)  # an item that is out of stock can be removed
    came, gone = (_rows(codes, trie, name) for codes, name in ((added, "added"), (removed, "removed")))
    ranks = whole.rank(gone)
    if (ranks < 0).any():
        unknown = gone[ranks < 0]
        raise InvalidValueError(
            f"codes to remove are unknown: expected IDs of the trie, got {unknown[0].tolist()} and {len(unknown) - 1} "
            "others. Has the trie this change already?"
        )
    stays = np.ones(trie.n_ranks, np.bool_)
    stays[ranks] = False
    again = whole.rank(came)
    again = (again >= 0) & stays[again]
    if again.any():
        raise InvalidValueError(
            f"codes to add are taken: expected new IDs, got {came[again][0].tolist()} and {again.sum() - 1} others. "
            "Remove these items in the same call, or has the trie this change already?"
        )
    if not len(came) and not stays.any():
        raise InvalidValueError(
            f"no item would be left: expected fewer than {trie.n_ranks} IDs to remove, got all. "
            "Use restrict([]) for a trie that reaches nothing."
        )
    levels = build_levels(np.concatenate([all_codes(trie._levels)[stays], came]), trie.codebook_sizes)
    return levels, _carried(trie, levels, came, stays)


def _carried(trie: "Trie", levels: Levels, came: IntArray, stays: BoolArray) -> Alive:
    """Return the restriction of the new trie: items that stay keep their state, new ones can be reached."""
    if trie.n_items == trie.n_ranks:
        return EVERYTHING
    alive = np.ones(levels.n_items, np.bool_)
    old = np.ones(levels.n_items, np.bool_)
    old[type(trie)(levels, trie.codebook_sizes).rank(came)] = False
    alive[old] = trie._alive.mask(trie.n_ranks)[stays]  # ranks follow codes: those that stay are in the same order
    return alive_from(alive)


def _rows(codes: Any, trie: "Trie", name: str) -> IntArray:
    """Return checked rows in the dtype of the trie's codes; none at all is fine."""
    dtype = trie._levels.child_codes.dtype
    if codes is None or (hasattr(codes, "__len__") and len(codes) == 0):
        return np.empty((0, trie.n_levels), dtype)
    rows = check_code_rows(codes, name=name)
    if rows.shape[1] != trie.n_levels:
        raise InvalidValueError(
            f"{name} has a wrong shape: expected (n, {trie.n_levels}), got {rows.shape}. Pass one row per item."
        )
    sizes_of(rows, trie.codebook_sizes)
    return rows.astype(dtype)


def _reached(trie: "Trie") -> CodeArray:
    codes = all_codes(trie._levels)
    return codes if trie.n_items == trie.n_ranks else codes[trie.ranks()]
