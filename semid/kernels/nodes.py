"""What a trie's arrays mean: the ranks and the children below a node, and which of them are alive.

Every kernel of the trie takes these arrays first:

- ``starts``, ``firsts``: of the explicit depths, one entry per node and one more, from ``node_offsets[depth]`` on. The
  children of node ``n`` are the edges ``starts[n] .. starts[n + 1] - 1`` of its level, and a child's node is its edge;
  the items below it are the ranks ``firsts[n] .. firsts[n + 1] - 1``. ``firsts`` has one depth more than ``starts``.
- ``child_codes``: from ``code_offsets[level]`` on, the code of each edge of an explicit level; of the other levels, the
  flat ones, the code of each item by rank. So the tail of a single item is its codes, without nodes or pointers.
- ``forks``: bits, 64 ranks a word, for each flat level but the last: set where a node of the next depth begins. A node
  of a flat depth is its first rank, and so a leaf is its rank.
- ``node_offsets`` (n_explicit + 2), ``code_offsets`` (n_levels + 1): where each depth and each level begins.
- ``alive``, ``alive_counts``: bits of the ranks that may be reached, and how many are set before each word; both empty
  when all may.
"""

from typing import Any

import numpy as np

from semid._arrays import IntArray
from semid.kernels.compile import inlined, njit

__all__ = ["alive_below", "count_below", "find_code", "list_children", "next_fork", "node_range", "popcount"]


_1, _2, _4, _56 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)
_PAIRS, _NIBBLES = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_BYTES, _SUM = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)
_ZERO, _ONES = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)


@inlined
def popcount(bits: Any) -> Any:
    """Return how many bits of a word are set; compilers make one instruction of it."""
    bits = bits - ((bits >> _1) & _PAIRS)
    bits = (bits & _NIBBLES) + ((bits >> _2) & _NIBBLES)
    return np.int64((((bits + (bits >> _4)) & _BYTES) * _SUM) >> _56)


@inlined
def count_below(values: IntArray, first: Any, last: Any, limit: Any) -> Any:
    """Return the first position in the sorted ``values[first:last]`` whose value is not below `limit`."""
    low, high = first, last
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < limit:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def find_code(child_codes: IntArray, first: Any, last: Any, wanted: Any) -> Any:
    """Return the first position in the sorted ``child_codes[first:last]`` that holds a code, -1 if none does."""
    at = count_below(child_codes, first, last, wanted)
    if at == last or child_codes[at] != wanted:
        return -1
    return at


@inlined
def next_fork(forks: IntArray, first_word: Any, rank: Any, n_items: Any) -> Any:
    """Return the first rank behind `rank` where a node begins, `n_items` if none does."""
    rank += 1
    if rank >= n_items:
        return n_items
    word, n_words = rank >> 6, (n_items + 63) >> 6
    bits = forks[first_word + word] & (_ONES << np.uint64(rank & 63))
    while bits == _ZERO:
        word += 1
        if word == n_words:
            return n_items
        bits = forks[first_word + word]
    return (word << 6) + popcount((bits & (_ZERO - bits)) - _1)


@inlined
def node_range(
    firsts: IntArray, forks: IntArray, node_offsets: IntArray, code_offsets: IntArray, depth: Any, node: Any
) -> Any:
    """Return the first rank below a node and the one behind the last."""
    n_explicit = node_offsets.shape[0] - 2
    if depth <= n_explicit:
        at = node_offsets[depth] + node
        return np.int64(firsts[at]), np.int64(firsts[at + 1])
    if depth == code_offsets.shape[0] - 1:
        return np.int64(node), np.int64(node + 1)
    n_items = np.int64(firsts[1])
    first_word = (depth - 1 - n_explicit) * ((n_items + 63) >> 6)
    return np.int64(node), np.int64(next_fork(forks, first_word, node, n_items))


@inlined
def alive_before(alive: IntArray, alive_counts: IntArray, rank: Any) -> Any:
    """Return how many ranks below `rank` are alive."""
    word = rank >> 6
    return alive_counts[word] + popcount(alive[word] & ~(_ONES << np.uint64(rank & 63)))


@inlined
def alive_below(alive: IntArray, alive_counts: IntArray, low: Any, high: Any) -> Any:
    """Return how many of the ranks ``low .. high - 1`` are alive."""
    if alive.shape[0] == 0:
        return high - low
    return alive_before(alive, alive_counts, high) - alive_before(alive, alive_counts, low)


@njit
def list_children(
    starts: IntArray,
    firsts: IntArray,
    child_codes: IntArray,
    forks: IntArray,
    node_offsets: IntArray,
    code_offsets: IntArray,
    alive: IntArray,
    alive_counts: IntArray,
    depth: Any,
    node: Any,
    codes: IntArray,
) -> Any:
    """Write the codes of a node's children with alive items to `codes`, in order, and return how many there are."""
    n_explicit, n_items = node_offsets.shape[0] - 2, np.int64(firsts[1])
    first_code = code_offsets[depth]
    n = 0
    if depth < n_explicit:
        at, below = node_offsets[depth] + node, node_offsets[depth + 1]
        for child in range(np.int64(starts[at]), np.int64(starts[at + 1])):
            low, high = np.int64(firsts[below + child]), np.int64(firsts[below + child + 1])
            if alive_below(alive, alive_counts, low, high) > 0:
                codes[n] = child_codes[first_code + child]
                n += 1
        return n
    child, end = node_range(firsts, forks, node_offsets, code_offsets, depth, node)
    last_level = depth == code_offsets.shape[0] - 2
    first_word = (depth - n_explicit) * ((n_items + 63) >> 6)
    while child < end:
        behind = child + 1 if last_level else next_fork(forks, first_word, child, n_items)
        if alive_below(alive, alive_counts, child, behind) > 0:
            codes[n] = child_codes[first_code + child]
            n += 1
        child = behind
    return n
