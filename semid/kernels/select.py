"""One step of a beam search over the trie: the best children of all beams of a request."""

from typing import Any

import numpy as np
import numpy.typing as npt

from semid.kernels.compile import inlined, njit
from semid.kernels.nodes import alive_below, count_below, next_fork, node_range

__all__ = ["select"]

IntArray = npt.NDArray[np.integer[Any]]
ScoreArray = npt.NDArray[np.float32]

NEG_INF = np.float32(-np.inf)
# Up to so many children are all compared with each other: cheaper than a threshold and a sort.
FEW = 160
_LOW, _SIGN, _32 = np.uint64(0xFFFFFFFF), np.uint64(0x80000000), np.uint64(32)


@njit
def kth_largest(values: ScoreArray, k: Any) -> Any:
    """Return the k-th largest of `values`, which are reordered; Hoare's quickselect."""
    low, high = 0, values.shape[0] - 1
    wanted = values.shape[0] - k
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return values[wanted]


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
def fill_candidates(
    firsts: IntArray,
    child_codes: IntArray,
    node_offsets: IntArray,
    code_offsets: IntArray,
    alive: IntArray,
    alive_counts: IntArray,
    depth: Any,
    low: Any,
    high: Any,
    base: Any,
    log_probs: ScoreArray,
    excluded: IntArray,
    first_excluded: Any,
    last_excluded: Any,
    candidates: IntArray,
    first: Any,
    last: Any,
    values: ScoreArray,
    ids: IntArray,
) -> Any:
    """Score the children of one node, the ranks ``low .. high - 1``, that lead to a candidate; return how many."""
    n_explicit = node_offsets.shape[0] - 2
    first_code = code_offsets[depth]
    n = 0
    for at in range(count_below(candidates, first, last, low), last):
        rank = candidates[at]
        if rank >= high:
            break
        if is_dead(alive, alive_counts, excluded, first_excluded, last_excluded, rank, rank + 1):
            continue
        if depth < n_explicit:
            below = node_offsets[depth + 1]
            end = node_offsets[depth + 2] if depth + 2 < node_offsets.shape[0] else firsts.shape[0]
            child = count_below(firsts, below, end, rank + 1) - 1 - below
        else:  # the first of the node's items with the code of this one
            code = child_codes[first_code + rank]
            child = count_below(child_codes, first_code + low, first_code + rank, code) - first_code
        if n > 0 and ids[n - 1] == child:
            continue
        value = base + log_probs[child_codes[first_code + child]]
        values[n] = value if value > NEG_INF else NEG_INF
        ids[n] = child
        n += 1
    return n


@inlined
def fill_children(
    starts: IntArray,
    firsts: IntArray,
    child_codes: IntArray,
    forks: IntArray,
    node_offsets: IntArray,
    code_offsets: IntArray,
    depth: Any,
    node: Any,
    base: Any,
    log_probs: ScoreArray,
    values: ScoreArray,
    ids: IntArray,
) -> Any:
    """Score all children of one node; `ids[0]` is the first, the others follow it but in a flat level before the last.

    Returns how many there are. What is not a number becomes -inf.
    """
    n_explicit, n_items = node_offsets.shape[0] - 2, np.int64(firsts[1])
    first_code = code_offsets[depth]
    if depth < n_explicit:
        first, last = np.int64(starts[node_offsets[depth] + node]), np.int64(starts[node_offsets[depth] + node + 1])
    else:
        first, last = node_range(firsts, forks, node_offsets, code_offsets, depth, node)
        if depth < code_offsets.shape[0] - 2:
            first_word = (depth - n_explicit) * ((n_items + 63) >> 6)
            n: Any = 0
            while first < last:
                value = base + log_probs[child_codes[first_code + first]]
                values[n] = value if value > NEG_INF else NEG_INF
                ids[n] = first
                n += 1
                first = next_fork(forks, first_word, first, n_items)
            return n
    n = last - first
    ids[0] = first
    out = values[:n]
    if n == log_probs.shape[0]:  # every code follows: nothing to gather
        for child in range(n):
            value = base + log_probs[child]
            out[child] = value if value > NEG_INF else NEG_INF
    else:
        codes = child_codes[first_code + first : first_code + last]
        for child in range(n):
            value = base + log_probs[codes[child]]
            out[child] = value if value > NEG_INF else NEG_INF
    return n


@inlined
def sort_key(bits: Any, at: Any) -> Any:
    """Return a key that orders candidates by the bits of their float32 score, then by the order they were met in."""
    bits = np.uint64(bits)
    if bits == _SIGN:  # -0.0 ties with 0.0
        bits = np.uint64(0)
    bits = (~bits & _LOW) if bits & _SIGN else (bits | _SIGN)
    return (bits << _32) | (_LOW - np.uint64(at))


@inlined
def rank_keys(keys: IntArray, winners: IntArray, k: Any) -> None:
    """Write the `k` largest keys, which all differ, in descending order; fewer where there are fewer."""
    n = keys.shape[0]
    if n <= FEW:  # counting who is larger has no branches to guess wrong
        for one in range(n):
            key, slot = keys[one], np.int64(0)
            for other in range(n):
                slot += np.int64(keys[other] > key)
            if slot < k:
                winners[slot] = key
    else:
        keys.sort()
        for at in range(min(n, k)):
            winners[at] = keys[n - 1 - at]


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
    log_probs: ScoreArray,
    start: ScoreArray,
    nodes: IntArray,
    excluded: IntArray,
    exclude_starts: IntArray,
    candidates: IntArray,
    candidate_starts: IntArray,
    limited: IntArray,
    out_scores: ScoreArray,
    out_rows: IntArray,
    out_codes: IntArray,
    out_nodes: IntArray,
) -> None:
    """Write the best children over all beams of each request, best first; ties to the lower beam, then lower code.

    `log_probs` (requests, beams, codes), `start` and `nodes` (requests, beams); ``excluded[exclude_starts[r]:
    exclude_starts[r + 1]]`` are the sorted ranks that request r must not reach; where ``limited[r]`` is not 0,
    `candidates` are, in the same layout, the only ones that it may. Slots that cannot be filled get score -inf and -1.
    A child whose score is -inf or NaN is no candidate.
    """
    n_requests, n_beams, size = log_probs.shape
    k = out_scores.shape[1]
    n_explicit, last_level = node_offsets.shape[0] - 2, code_offsets.shape[0] - 2
    in_order = depth < n_explicit or depth == last_level  # children are neighbours

    room = 1
    for request in range(n_requests):
        total = 0
        for beam in range(n_beams):
            if nodes[request, beam] >= 0:
                low, high = node_range(firsts, forks, node_offsets, code_offsets, depth, nodes[request, beam])
                total += min(high - low, size)
        room = max(room, total)
    values, ids, keys = np.empty(room, np.float32), np.empty(room, np.int64), np.empty(room, np.uint64)
    lanes, pivots, bits = np.empty(room, np.float32), np.empty(room, np.float32), values.view(np.uint32)
    segments, winners = np.empty(n_beams + 1, np.int64), np.empty(k, np.uint64)

    for request in range(n_requests):
        first_excluded, last_excluded = exclude_starts[request], exclude_starts[request + 1]
        first_candidate, last_candidate = candidate_starts[request], candidate_starts[request + 1]
        of_candidates = limited[request] != 0
        filtered = not of_candidates and (alive.shape[0] > 0 or last_excluded > first_excluded)

        # 1. The scores of all children of all beams, one after the other.
        total = 0
        for beam in range(n_beams):
            segments[beam] = total
            node = nodes[request, beam]
            if node < 0:
                continue
            base, row = start[request, beam], log_probs[request, beam]
            if of_candidates:
                low, high = node_range(firsts, forks, node_offsets, code_offsets, depth, node)
                total += fill_candidates(
                    firsts, child_codes, node_offsets, code_offsets, alive, alive_counts, depth, low, high, base, row,
                    excluded, first_excluded, last_excluded, candidates, first_candidate, last_candidate,
                    values[total:], ids[total:],
                )  # fmt: skip
            else:
                total += fill_children(
                    starts, firsts, child_codes, forks, node_offsets, code_offsets, depth, node, base, row,
                    values[total:], ids[total:],
                )  # fmt: skip
        segments[n_beams] = total

        # 2. The largest score of each lane (the children at one distance): the k-th largest of these is a score that at
        # least k children reach, and only the lanes that reach it need a second look. Reading neighbours side by side
        # is what processors do best; a heap would look at one child after the other.
        width = (4 * k + 15) // 16 * 16
        if total < 2 * width:
            width = max(total, 1)
        lane = lanes[:width]
        lane[:] = values[:width]
        for first in range(width, total, width):
            chunk = values[first : min(first + width, total)]
            for at in range(chunk.shape[0]):
                lane[at] = chunk[at] if chunk[at] > lane[at] else lane[at]

        # 3. The children that reach the threshold and are not dead. Where too many were dead, a lower one.
        wanted = k
        if filtered:  # few children of explicit levels die
            wanted += k // 4 + 1 if depth < n_explicit else k
        n = 0
        while total > 0:
            threshold = NEG_INF
            if wanted < width and total > FEW:
                pivots[:width] = lane
                threshold = kth_largest(pivots[:width], wanted)
            n = 0
            for first in range(width):
                if not (lane[first] >= threshold and lane[first] > NEG_INF):
                    continue
                for at in range(first, total, width):
                    if not (values[at] >= threshold and values[at] > NEG_INF):
                        continue
                    if filtered:
                        beam = count_below(segments, 0, n_beams + 1, at + 1) - 1
                        child = ids[segments[beam]] + at - segments[beam] if in_order else ids[at]
                        low, high = node_range(firsts, forks, node_offsets, code_offsets, depth + 1, child)
                        if is_dead(alive, alive_counts, excluded, first_excluded, last_excluded, low, high):
                            continue
                    keys[n] = sort_key(bits[at], at)
                    n += 1
            if n >= k or threshold == NEG_INF:
                break
            wanted *= 2

        # 4. Sort them and write the best.
        rank_keys(keys[:n], winners, k)
        for slot in range(k):
            if slot < n:
                won = np.int64(_LOW - (winners[slot] & _LOW))
                beam = count_below(segments, 0, n_beams + 1, won + 1) - 1
                child = ids[segments[beam]] + won - segments[beam] if in_order and not of_candidates else ids[won]
                out_scores[request, slot] = values[won]
                out_rows[request, slot] = beam
                out_codes[request, slot] = child_codes[code_offsets[depth] + child]
                out_nodes[request, slot] = child
            else:
                out_scores[request, slot] = NEG_INF
                out_rows[request, slot] = -1
                out_codes[request, slot] = -1
                out_nodes[request, slot] = -1
