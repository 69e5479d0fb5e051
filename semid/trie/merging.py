"""New tries of old ones: the union of two, or one after items came and went."""

from typing import TYPE_CHECKING, Any

import numpy as np

from semid.errors import InvalidValueError
from semid.trie.asking import all_codes
from semid.trie.build import build_levels
from semid.trie.levels import CodeArray, Levels

if TYPE_CHECKING:
    from semid.trie.trie import Trie

__all__ = ["merge"]


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


def _reached(trie: "Trie") -> CodeArray:
    codes = all_codes(trie._levels)
    return codes if trie.n_items == trie.n_ranks else codes[trie.ranks()]
