"""The arrays of a trie and how they are read: levels, which items are alive, codes by rank, and whose trie it is."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

import numpy as np

from semid._arrays import BoolArray, CodeArray, IntArray
from semid.kernels import kernel

__all__ = [
    "EVERYTHING",
    "UNMARKED",
    "Alive",
    "Levels",
    "Mark",
    "alive_from",
    "alive_from_words",
    "all_codes",
    "codes_of",
    "find_ranks",
    "intersect",
    "level_offsets",
    "pieces",
]


class Levels(NamedTuple):
    """The arrays of a trie; ``semid/kernels/nodes.py`` says what they mean.

    The upper levels, whose edges are few, are explicit: an array of child codes and one of child starts. Below them a
    node has little more than one item, and the arrays are flat: the code of every item by rank, and one bit that says
    where a node begins. That needs no pointers: a tail of a single item costs its codes and a bit per level.

    Attributes
    ----------
    starts, firsts : ndarray, dtype int32 or int64
        Per explicit depth, each node's first edge, and the first rank below each node.
    child_codes : ndarray, unsigned
        Per level, the code of each edge or, in flat levels, of each item.
    forks : ndarray, dtype uint64
        Per flat level but the last, a bit per item.
    node_offsets, code_offsets : ndarray of shape (n_explicit + 2,) and (n_levels + 1,), dtype int64
    """

    starts: IntArray
    firsts: IntArray
    child_codes: CodeArray
    forks: IntArray
    node_offsets: IntArray
    code_offsets: IntArray

    @property
    def n_explicit(self) -> int:
        """Number of explicit levels."""
        return len(self.node_offsets) - 2

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return len(self.code_offsets) - 1

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.code_offsets[-1] - self.code_offsets[-2])  # the last level is flat, always

    def n_nodes(self, depth: int) -> int:
        """Return one more than the largest node at a depth."""
        if depth <= self.n_explicit:
            return int(self.node_offsets[depth + 1] - self.node_offsets[depth]) - 1
        return self.n_items

    def flat(self, level: int) -> CodeArray:
        """Return the codes of all items at a flat level, by rank."""
        return self.child_codes[self.code_offsets[level] : self.code_offsets[level + 1]]


def level_offsets(n_edges: IntArray, n_explicit: int) -> tuple[IntArray, IntArray]:
    """Return `node_offsets` and `code_offsets` for the number of edges of each level; the last is the items'."""
    n_nodes = np.concatenate([[1], n_edges[:n_explicit]])
    n_codes = np.concatenate([n_edges[:n_explicit], np.full(len(n_edges) - n_explicit, n_edges[-1])])
    return np.concatenate([[0], np.cumsum(n_nodes + 1)]), np.concatenate([[0], np.cumsum(n_codes)])


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


# IDs that are read at a time when a trie is iterated or compared.
PIECE = 1 << 14


def codes_of(levels: Levels, ranks: IntArray) -> CodeArray:
    """Return the codes of items by checked rank, shape (..., n_levels)."""
    codes = np.empty((*ranks.shape, levels.n_levels), levels.child_codes.dtype)
    for level in range(levels.n_levels):
        if level < levels.n_explicit:
            firsts = levels.firsts[levels.node_offsets[level + 1] : levels.node_offsets[level + 2]]
            at: IntArray = np.searchsorted(firsts, ranks, side="right") - 1
        else:
            at = ranks
        codes[..., level] = levels.child_codes[levels.code_offsets[level] + at]
    return codes


def all_codes(levels: Levels) -> CodeArray:
    """Return the codes of all items by rank: those of an explicit level are repeated, not looked up."""
    codes = np.empty((levels.n_items, levels.n_levels), levels.child_codes.dtype)
    for level in range(levels.n_levels):
        edges = levels.child_codes[levels.code_offsets[level] : levels.code_offsets[level + 1]]
        if level < levels.n_explicit:
            below = levels.firsts[levels.node_offsets[level + 1] : levels.node_offsets[level + 2]]
            edges = np.repeat(edges, np.diff(below))
        codes[:, level] = edges
    return codes


def pieces(levels: Levels, alive: Alive) -> Iterator[CodeArray]:
    """Yield the codes of the items that can be reached, in order, some at a time."""
    ranks = np.flatnonzero(alive.mask(levels.n_items))
    for first in range(0, len(ranks), PIECE):
        yield codes_of(levels, ranks[first : first + PIECE])


def find_ranks(levels: Levels, codes: IntArray | CodeArray) -> IntArray:
    """Return the rank of each row of checked codes, shape (n,), dtype int64; -1 where there is no such item."""
    ranks = np.empty(len(codes), np.int64)
    kernel("walk")(*levels, *EVERYTHING, np.ascontiguousarray(codes, np.int64), ranks)
    return ranks


class Mark(NamedTuple):
    """A catalogue's fingerprint and generation; None where a trie was not made by one.

    Examples
    --------
    >>> Mark("ab12", 3).head(), Mark.of_head({"fingerprint": "ab12", "generation": "3"})
    ({'fingerprint': 'ab12', 'generation': '3'}, Mark(fingerprint='ab12', generation=3))
    """

    fingerprint: str | None = None
    generation: int | None = None

    def head(self) -> dict[str, str]:
        """Return what is known as texts, as the header of a file holds it."""
        return {name: str(value) for name, value in self._asdict().items() if value is not None}

    @classmethod
    def of_head(cls, head: Mapping[str, str]) -> Self:
        """Read the mark from a file's header, whose generation is a number."""
        generation = head.get("generation")
        return cls(head.get("fingerprint"), None if generation is None else int(generation))


UNMARKED = Mark()
