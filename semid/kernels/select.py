"""One step of a beam search over the trie: the best children of all beams of a request.

The children of a sparse node are scored one by one. Of a dense node, which has most of the codes, the scores of all
codes are read as they lie in memory, and only those that reach a threshold are looked up among the children.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import FloatArray, IntArray
from semid.kernels.compile import inlined, njit
from semid.kernels.nodes import alive_below, count_below, next_fork, node_range, popcount

__all__ = ["select"]


NEG_INF, LOWEST = np.float32(-np.inf), np.finfo(np.float32).min
# Scores that are looked at together.
BLOCK = 64
# Nodes of fewer children are not dense.
GROUP = 16
# A node of a flat level of so many items may be dense; below, its items are scored one by one.
CROWDED = 64
# Up to so many keys are all compared with each other: cheaper than a sort.
FEW = 160
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_LOW, _SIGN, _32 = np.uint64(0xFFFFFFFF), np.uint64(0x80000000), np.uint64(32)


@inlined
def is_dead(
    alive: IntArray, alive_counts: IntArray, excluded: IntArray, first: Any, last: Any, low: Any, high: Any
) -> Any:
    """Tell whether each of the ranks ``low .. high - 1`` is not alive or in the sorted ``excluded[first:last]``."""
    left = alive_below(alive, alive_counts, low, high)
    if left == 0:
        return True
    if left > last - first:
        return False
    at = count_below(excluded, first, last, low)
    while at < last and excluded[at] < high:
        left -= alive_below(alive, alive_counts, excluded[at], excluded[at] + 1)
        at += 1
    return left == 0


@inlined
def count_codes_below(child_codes: IntArray, first: Any, last: Any, limit: Any) -> Any:
    """Return what `count_below` does, without a branch to guess wrong."""
    low, n = first, last - first
    while n > 0:
        half = (n + 1) >> 1
        low += half if child_codes[low + half - 1] < limit else 0
        n -= half
    return low


@inlined
def count_forks(forks: IntArray, first_word: Any, first: Any, last: Any) -> Any:
    """Return how many nodes begin at the ranks ``first .. last - 1``, of which there is at least one."""
    word, last_word = first >> 6, (last - 1) >> 6
    bits, n = forks[first_word + word] & (_ONES << np.uint64(first & 63)), np.int64(0)
    while word < last_word:
        n += popcount(bits)
        word += 1
        bits = forks[first_word + word]
    return n + popcount(bits & (_ONES >> np.uint64(63 - ((last - 1) & 63))))


@inlined
def raise_lanes(lanes: FloatArray, lane: Any, base: Any, scores: FloatArray) -> Any:
    """Raise lanes to scores, one after the other and again from the first; return the lane for the next score."""
    n, width = scores.shape[0], lanes.shape[0]
    first = np.int64(0)
    while first < n:
        length = min(n - first, width - lane)
        some, chunk = lanes[lane : lane + length], scores[first : first + length]
        for at in range(length):
            score = base + chunk[at]
            some[at] = score if score > some[at] else some[at]  # what is not a number raises none
        first += length
        lane = lane + length if lane + length < width else np.int64(0)
    return lane


@inlined
def ordered(bits: Any) -> Any:
    """Return the bits of a float32 as an integer in the same order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@njit
def reached_by(numbers: npt.NDArray[np.int32], wanted: Any) -> Any:
    """Return the bits of a score that `wanted` scores reach and not many more; all are given as their bits.

    By halving: counting neighbours side by side guesses no branch wrong, as a quickselect does. `numbers` is changed.
    """
    n = numbers.shape[0]
    low, high = np.int64(2**31 - 1), np.int64(-(2**31))
    for at in range(n):
        number = ordered(np.int64(numbers[at]))
        numbers[at] = number
        low, high = min(low, number), max(high, number)
    while low < high:  # all reach the lowest
        middle = low + (high - low + 1) // 2
        limit, n_reaching = np.int32(middle), np.int64(0)
        for at in range(n):
            n_reaching += np.int64(numbers[at] >= limit)
        if n_reaching < wanted:
            high = middle - 1
        else:
            low = middle
            if n_reaching <= wanted + wanted // 8:
                break
    return ordered(low)


@inlined
def list_reaching(scores: FloatArray, base: Any, threshold: Any, reached: IntArray) -> Any:
    """Write which scores reach the threshold, in order, and return how many do."""
    n_reached = np.int64(0)
    for first in range(0, scores.shape[0], BLOCK):
        block, some = scores[first : first + BLOCK], np.int64(0)
        for at in range(block.shape[0]):
            some += np.int64(base + block[at] >= threshold)
        if some > 0:
            for at in range(block.shape[0]):
                reached[n_reached] = first + at
                n_reached += np.int64(base + block[at] >= threshold)
    return n_reached


@inlined
def sort_key(bits: Any, at: Any) -> Any:
    """Return a key that orders candidates by the bits of their float32 score, then by the order they were met in."""
    bits = np.uint64(bits)
    if bits == _SIGN:  # -0.0 ties with 0.0
        bits = np.uint64(0)
    bits = (~bits & _LOW) if bits & _SIGN else (bits | _SIGN)
    return (bits << _32) | (_LOW - np.uint64(at))


@inlined
def rank_keys(keys: IntArray, n: Any, winners: IntArray) -> None:
    """Write n keys, which all differ, in descending order."""
    if n <= FEW:  # counting who is larger has no branches to guess wrong
        for one in range(n):
            key, slot = keys[one], np.int64(0)
            for other in range(n):
                slot += np.int64(keys[other] > key)
            winners[slot] = key
    else:
        ascending = np.sort(keys[:n])
        for at in range(n):
            winners[at] = ascending[n - 1 - at]


@njit
def select(
    starts: IntArray,
    firsts: IntArray,
    child_codes: IntArray,
    forks: IntArray,
    node_offsets: IntArray,
    code_offsets: IntArray,
    alive: IntArray,
    alive_counts: IntArray,
    depth: Any,
    log_probs: FloatArray,
    start: FloatArray,
    nodes: IntArray,
    excluded: IntArray,
    exclude_starts: IntArray,
    candidates: IntArray,
    candidate_starts: IntArray,
    limited: IntArray,
    out_scores: FloatArray,
    out_rows: IntArray,
    out_codes: IntArray,
    out_nodes: IntArray,
) -> bool:
    """Write the best children over all beams of each request, best first; ties to the lower beam, then lower code.

    `log_probs` (requests, beams, codes), `start` and `nodes` (requests, beams); ``excluded[exclude_starts[r]:
    exclude_starts[r + 1]]`` are the sorted ranks that request r must not reach; where ``limited[r]`` is not 0,
    `candidates` are, in the same layout, the only ones that it may. Slots that cannot be filled get score -inf and -1.
    A child whose score is -inf or NaN is no candidate. Returns False, and writes nothing, where `nodes` holds what is
    no node of the depth and not -1.
    """
    n_requests, n_beams, size = log_probs.shape
    k = out_scores.shape[1]
    n_explicit, last_level = node_offsets.shape[0] - 2, code_offsets.shape[0] - 2
    n_items, first_code = np.int64(firsts[1]), code_offsets[depth]
    are_distinct = depth < n_explicit or depth == last_level  # the children of a node have different codes
    some_are_dead = alive.shape[0] > 0 and depth >= n_explicit  # among those that are scored
    first_word = (depth - n_explicit) * ((n_items + 63) >> 6)
    scores = log_probs.reshape(n_requests * n_beams * size)
    begins, ends, counts, dense = np.empty((4, n_beams), np.int64)
    values, places = np.empty(GROUP, np.float32), np.empty(GROUP, np.int64)
    keys, winners = np.empty(GROUP, np.uint64), np.empty(GROUP, np.uint64)
    reached, lanes, one = np.empty(size + 1, np.int64), np.empty(GROUP, np.float32), np.empty(1, np.float32)
    n: Any = 0

    n_nodes = n_items if depth > n_explicit else node_offsets[depth + 1] - node_offsets[depth] - 1
    n_others = np.int64(0)
    for request in range(n_requests):
        for beam in range(n_beams):
            n_others += np.int64(nodes[request, beam] < -1 or nodes[request, beam] >= n_nodes)
    if n_others > 0:
        return False

    for request in range(n_requests):
        first_excluded, last_excluded = exclude_starts[request], exclude_starts[request + 1]
        first_candidate, last_candidate = candidate_starts[request], candidate_starts[request + 1]
        is_limited = limited[request] != 0
        is_filtered = not is_limited and (alive.shape[0] > 0 or last_excluded > first_excluded)
        of_request = request * n_beams * size

        # 1. Where the children of each beam are, and which nodes are dense.
        n_dense, n_children, n_values, room = 0, np.int64(0), np.int64(0), np.int64(GROUP)
        for beam in range(n_beams):
            node = nodes[request, beam]
            begin, end = np.int64(0), np.int64(0)
            if node >= 0:
                if depth < n_explicit:
                    at = node_offsets[depth] + node
                    begin, end = np.int64(starts[at]), np.int64(starts[at + 1])
                else:
                    begin, end = node_range(firsts, forks, node_offsets, code_offsets, depth, node)
            begins[beam], ends[beam] = begin, end
            n = end - begin
            is_known = are_distinct or n >= CROWDED
            if is_known and not are_distinct and not is_limited:
                n = count_forks(forks, first_word, begin, end)
            counts[beam] = n
            if is_known and not is_limited and not some_are_dead and n >= GROUP and 2 * n > size:
                dense[n_dense] = beam
                n_dense += 1
                n_children += n
            else:
                room += min(n, size)
        if room > values.shape[0]:
            values, places = np.empty(room, np.float32), np.empty(room, np.int64)

        # 2. The scores of the children of all other nodes.
        next_dense = 0
        for beam in range(n_beams):
            if next_dense < n_dense and dense[next_dense] == beam:
                next_dense += 1
                continue
            base, row, begin, end = start[request, beam], of_request + beam * size, begins[beam], ends[beam]
            if nodes[request, beam] < 0:
                continue
            if is_limited:
                low, high = node_range(firsts, forks, node_offsets, code_offsets, depth, nodes[request, beam])
                child_before = np.int64(-1)
                for at in range(count_below(candidates, first_candidate, last_candidate, low), last_candidate):
                    rank = candidates[at]
                    if rank >= high:
                        break
                    if is_dead(alive, alive_counts, excluded, first_excluded, last_excluded, rank, rank + 1):
                        continue
                    if depth < n_explicit:  # the last edge that begins at the rank or before it
                        below = node_offsets[depth + 1]
                        child = count_below(firsts, below + begin, below + end, rank + 1) - 1 - below
                    else:  # the first of the node's items with the code of this one
                        code = child_codes[first_code + rank]
                        child = count_below(child_codes, first_code + low, first_code + rank, code) - first_code
                    if child == child_before:
                        continue
                    child_before = child
                    code = np.int64(child_codes[first_code + child])
                    values[n_values], places[n_values] = base + scores[row + code], row - of_request + code
                    n_values += 1
            elif not some_are_dead and (are_distinct or end - begin < CROWDED):
                for child in range(begin, end):  # items that share a child are neighbours: the next overwrites it
                    code = np.int64(child_codes[first_code + child])
                    values[n_values], places[n_values] = base + scores[row + code], row - of_request + code
                    n_values += np.int64(
                        are_distinct or child + 1 == end or np.int64(child_codes[first_code + child + 1]) != code
                    )
            else:
                child = begin
                while child < end:
                    behind = child + 1 if are_distinct else next_fork(forks, first_word, child, n_items)
                    code = np.int64(child_codes[first_code + child])
                    values[n_values], places[n_values] = base + scores[row + code], row - of_request + code
                    n_values += np.int64(not some_are_dead or alive_below(alive, alive_counts, child, behind) > 0)
                    child = behind
        n_children += n_values

        # 3. Again with more wanted where too many were dead, or codes of dense nodes without a child.
        wanted, slots = np.int64(k + k // 8 + 1 if is_filtered else k), np.int64(0)
        while True:
            wanted = min(wanted, n_children + 1)

            # A score that `wanted` children reach, or almost as many: every score falls into one of a few lanes, and a
            # lane's largest is one child, or in a dense node now and then a code without one.
            threshold = NEG_INF
            if n_children > 2 * wanted:
                n_codes, n_wanted = n_dense * size + n_values, wanted
                if n_codes > n_children:
                    n_wanted = wanted * n_codes // n_children + wanted // 4 + 1
                width = 3 * n_wanted
                if width > lanes.shape[0]:
                    lanes = np.empty(width, np.float32)
                some = lanes[:width]
                some[:] = NEG_INF
                lane = np.int64(0)
                for at_dense in range(n_dense):
                    beam = dense[at_dense]
                    row = of_request + beam * size
                    lane = raise_lanes(some, lane, start[request, beam], scores[row : row + size])
                raise_lanes(some, lane, np.float32(0), values[:n_values])
                one.view(np.int32)[0] = reached_by(some.view(np.int32), n_wanted)
                threshold = one[0]
            is_all = threshold == NEG_INF
            if is_all:
                threshold = LOWEST

            # The keys of the children that reach it.
            room, n = n_values, np.int64(0)
            for at_dense in range(n_dense):
                room += counts[dense[at_dense]]
            if room > keys.shape[0]:
                keys, winners = np.empty(room, np.uint64), np.empty(room, np.uint64)
            for at_dense in range(n_dense):
                beam = dense[at_dense]
                base, row = start[request, beam], of_request + beam * size
                begin, end = first_code + begins[beam], first_code + ends[beam]
                for at in range(list_reaching(scores[row : row + size], base, threshold, reached)):
                    code = reached[at]
                    if counts[beam] < size:
                        found = count_codes_below(child_codes, begin, end, code)
                        if found == end or np.int64(child_codes[found]) != code:
                            continue
                    one[0] = base + scores[row + code]
                    keys[n] = sort_key(one.view(np.uint32)[0], row - of_request + code)
                    n += 1
            for at in range(n_values):
                if values[at] >= threshold:
                    keys[n] = sort_key(values.view(np.uint32)[at], places[at])
                    n += 1
            rank_keys(keys, n, winners)

            # 4. The best of them that are not dead.
            slots = np.int64(0)
            for at in range(n):
                if slots == k:
                    break
                place = np.int64(_LOW - (winners[at] & _LOW))
                beam = place // size
                code = place - beam * size
                child = count_codes_below(child_codes, first_code + begins[beam], first_code + ends[beam], code)
                child -= first_code
                if is_filtered:
                    low, high = node_range(firsts, forks, node_offsets, code_offsets, depth + 1, child)
                    if is_dead(alive, alive_counts, excluded, first_excluded, last_excluded, low, high):
                        continue
                out_scores[request, slots] = start[request, beam] + scores[of_request + place]
                out_rows[request, slots], out_codes[request, slots] = beam, code
                out_nodes[request, slots] = child
                slots += 1
            if slots == k or is_all:
                break
            wanted *= 4
        for slot in range(slots, k):
            out_scores[request, slot] = NEG_INF
            out_rows[request, slot] = out_codes[request, slot] = out_nodes[request, slot] = -1
    return True
