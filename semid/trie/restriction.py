"""Which items may be reached: bits by rank, and counts that make "is any alive below this node" one subtraction."""

from typing import Any, NamedTuple

import numpy as np

from semid._arrays import BoolArray, IntArray
from semid._checks import as_array, check_ranks
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = ["EVERYTHING", "Alive", "alive_from", "alive_from_words", "check_restriction", "intersect"]


class Alive(NamedTuple):
    """The items that a restricted trie reaches.

    Attributes
    ----------
    alive : ndarray of shape (n_items // 64 + 1,), dtype uint64
        Bit ``rank % 64`` of word ``rank // 64``; empty when all items are alive.
    alive_counts : ndarray of the same shape, dtype int64
        Bits set before each word.
    """

    alive: IntArray
    alive_counts: IntArray

    def n_alive(self) -> int:
        """Return the number of items alive."""
        return int(self.alive_counts[-1]) + int(np.bitwise_count(self.alive[-1]))

    def mask(self, n_items: int) -> BoolArray:
        """Return the bits as booleans by rank."""
        if len(self.alive) == 0:
            return np.ones(n_items, np.bool_)
        return np.unpackbits(self.alive.view(np.uint8), count=n_items, bitorder="little").view(np.bool_)


def _frozen(alive: IntArray) -> Alive:
    counts = np.zeros(len(alive), np.int64)
    np.cumsum(np.bitwise_count(alive[:-1]), out=counts[1:])
    for array in (alive, counts):
        array.setflags(write=False)
    return Alive(alive, counts)


EVERYTHING = Alive(np.empty(0, np.uint64), np.empty(0, np.int64))
for _array in EVERYTHING:
    _array.setflags(write=False)


def alive_from(mask: BoolArray) -> Alive:
    """Pack booleans by rank."""
    room = np.zeros((len(mask) // 64 + 1) * 8, np.uint8)
    packed = np.packbits(mask, bitorder="little")
    room[: len(packed)] = packed
    return _frozen(room.view("<u8").astype(np.uint64, copy=False))


def alive_from_words(words: IntArray) -> Alive:
    """Return what saved words of bits mean; none means everything."""
    return _frozen(words.view(np.ndarray)) if len(words) else EVERYTHING


def intersect(one: Alive, other: Alive) -> Alive:
    """Return what is alive in both."""
    if len(one.alive) == 0:
        return other
    return _frozen(one.alive & other.alive)


def check_restriction(mask_or_ranks: Any, *, n_items: int) -> BoolArray:
    """Return a mask by rank from a mask or from ranks in any order."""
    given = as_array(mask_or_ranks, "restriction")
    if given.ndim != 1:
        raise InvalidValueError(
            f"restriction has a wrong shape: expected ({n_items},) booleans or a list of ranks, got {given.shape}."
        )
    if given.dtype == np.bool_:
        if len(given) != n_items:
            raise InvalidValueError(
                f"mask has a wrong length: expected {n_items} booleans, one per rank of the whole trie, got "
                f"{len(given)}. Put them in the order of the ranks."
            )
        return given
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise InvalidTypeError(
            f"restriction has a wrong dtype: expected booleans or integer ranks, got {given.dtype}. Convert it."
        )
    ranks = check_ranks(given, n_items=n_items, name="restriction")
    mask = np.zeros(n_items, np.bool_)
    mask[ranks] = True
    if len(given) == n_items and not mask.all():
        raise InvalidValueError(
            f"restriction is ambiguous: expected booleans or distinct ranks, got {n_items} integers, one an item, "
            "with repetitions. Pass a mask as booleans, with astype(bool), or numpy.unique of the ranks."
        )
    return mask
