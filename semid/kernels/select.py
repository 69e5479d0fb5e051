"""One step of a beam search over the trie: the best children of all beams of a request."""

from typing import Any

import numpy as np
import numpy.typing as npt

from semid.kernels.compile import njit

__all__ = ["select"]

IntArray = npt.NDArray[np.integer[Any]]
ScoreArray = npt.NDArray[np.float32]


@njit
def worse(score_a: Any, order_a: Any, score_b: Any, order_b: Any) -> Any:
    """Tell whether candidate a ranks below b: by score, then by the order in which they were met (beam, code)."""
    return score_a < score_b or (score_a == score_b and order_a > order_b)


@njit
def sift_up(score: ScoreArray, order: IntArray, beam: IntArray, child: IntArray, at: Any) -> None:
    """Move the new last entry of a heap (worst on top) to its place."""
    while at > 0:
        parent = (at - 1) >> 1
        if not worse(score[at], order[at], score[parent], order[parent]):
            break
        score[at], score[parent] = score[parent], score[at]
        order[at], order[parent] = order[parent], order[at]
        beam[at], beam[parent] = beam[parent], beam[at]
        child[at], child[parent] = child[parent], child[at]
        at = parent


@njit
def sift_down(score: ScoreArray, order: IntArray, beam: IntArray, child: IntArray, size: Any) -> None:
    """Move the new top entry of a heap (worst on top) to its place."""
    at = 0
    while True:
        worst = at
        for below in (2 * at + 1, 2 * at + 2):
            if below < size and worse(score[below], order[below], score[worst], order[worst]):
                worst = below
        if worst == at:
            break
        score[at], score[worst] = score[worst], score[at]
        order[at], order[worst] = order[worst], order[at]
        beam[at], beam[worst] = beam[worst], beam[at]
        child[at], child[worst] = child[worst], child[at]
        at = worst


@njit
def count_below(values: IntArray, first: Any, last: Any, limit: Any) -> Any:
    """Return how many of the sorted ``values[first:last]`` are below `limit`."""
    low, high = first, last
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < limit:
            low = middle + 1
        else:
            high = middle
    return low - first


@njit
def all_excluded(
    starts: IntArray, start_offsets: IntArray, depth: Any, child: Any, excluded: IntArray, first: Any, last: Any
) -> Any:
    """Tell whether every item below a child is in the sorted ``excluded[first:last]``."""
    low, high = child, child + 1
    for level in range(depth + 1, start_offsets.shape[0]):
        low = starts[start_offsets[level] + low]
        high = starts[start_offsets[level] + high]
    return count_below(excluded, first, last, high) - count_below(excluded, first, last, low) == high - low


@njit
def select(
    starts: IntArray,
    child_codes: IntArray,
    start_offsets: IntArray,
    code_offsets: IntArray,
    depth: Any,
    log_probs: ScoreArray,
    start: ScoreArray,
    nodes: IntArray,
    excluded: IntArray,
    exclude_starts: IntArray,
    out_scores: ScoreArray,
    out_rows: IntArray,
    out_codes: IntArray,
    out_nodes: IntArray,
) -> None:
    """Write the best children over all beams of each request, best first.

    `log_probs` (requests, beams, codes), `start` and `nodes` (requests, beams); ``excluded[exclude_starts[r]:
    exclude_starts[r + 1]]`` are the sorted ranks that request r must not reach. Slots that cannot be filled get
    score -inf and -1. A child whose score is -inf or NaN is no candidate.
    """
    n_requests, n_beams, _ = log_probs.shape
    k = out_scores.shape[1]
    score = np.empty(k, np.float32)
    order = np.empty(k, np.int64)
    beam = np.empty(k, np.int64)
    child_at = np.empty(k, np.int64)
    for request in range(n_requests):
        first_out, last_out = exclude_starts[request], exclude_starts[request + 1]
        size = 0
        met = 0
        for row in range(n_beams):
            node = nodes[request, row]
            if node < 0:
                continue
            base = start[request, row]
            for child in range(starts[start_offsets[depth] + node], starts[start_offsets[depth] + node + 1]):
                value = base + log_probs[request, row, child_codes[code_offsets[depth] + child]]
                met += 1
                if not value > -np.inf or (size == k and not value > score[0]):
                    continue
                if last_out > first_out and all_excluded(
                    starts, start_offsets, depth, child, excluded, first_out, last_out
                ):
                    continue
                if size < k:
                    score[size], order[size], beam[size], child_at[size] = value, met, row, child
                    size += 1
                    sift_up(score, order, beam, child_at, size - 1)
                else:
                    score[0], order[0], beam[0], child_at[0] = value, met, row, child
                    sift_down(score, order, beam, child_at, size)
        for slot in range(size, k):
            out_scores[request, slot] = -np.inf
            out_rows[request, slot] = -1
            out_codes[request, slot] = -1
            out_nodes[request, slot] = -1
        while size > 0:  # the worst is on top: fill from the back
            size -= 1
            out_scores[request, size] = score[0]
            out_rows[request, size] = beam[0]
            out_codes[request, size] = child_codes[code_offsets[depth] + child_at[0]]
            out_nodes[request, size] = child_at[0]
            score[0], order[0], beam[0], child_at[0] = score[size], order[size], beam[size], child_at[size]
            sift_down(score, order, beam, child_at, size)
