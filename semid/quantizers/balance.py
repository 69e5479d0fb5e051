"""Clusters of bounded size: each code takes at most so many items."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from semid._arrays import Labels, Matrix
from semid._checks import check_count
from semid._threads import for_each_block
from semid.errors import InvalidValueError
from semid.quantizers.lloyd import cluster_means

__all__ = ["assign_within", "check_capacity", "run_balanced"]

BLOCK_FLOATS = 1 << 19


def check_capacity(capacity: Any, n_rows: int, codebook_sizes: Sequence[int]) -> int | None:
    """Return a capacity that holds all training rows, or None for none."""
    if capacity is None:
        return None
    size = min(codebook_sizes)
    least = -(-n_rows // size)
    if check_count(capacity, "capacity") < least:
        raise InvalidValueError(
            f"capacity is too small: expected {least} or more for {n_rows} training rows and {size} codes, got "
            f"{capacity}. Raise capacity or codebook_size, or lower sample_size."
        )
    return int(capacity)


def run_balanced(x: Matrix, centroids: Matrix, *, capacity: int, max_iter: int, tol: float = 1e-3) -> Matrix:
    """Move centroids to the means of clusters of at most `capacity` rows, until a step gains less than a share `tol`.

    Parameters
    ----------
    x : ndarray of shape (n_items, dim), dtype float32
    centroids : ndarray of shape (codebook_size, dim), dtype float32
    capacity : int
        ``capacity * codebook_size >= n_items``.
    max_iter : int
    tol : float

    Returns
    -------
    centroids : ndarray of shape (codebook_size, dim), dtype float32
        Those of the least distortion; an empty cluster keeps its centroid.
    """
    best, least = centroids, np.inf
    for _ in range(max_iter):
        labels, cost = assign_within(x, centroids, capacity)
        distortion = float(cost.mean(dtype=np.float64))
        if distortion >= (1.0 - tol) * least:
            break
        means, sizes = cluster_means(x, labels, len(centroids))
        centroids = np.where((sizes > 0)[:, None], means, centroids)
        best, least = centroids, distortion
    return best


def assign_within(x: Matrix, centroids: Matrix, capacity: int) -> tuple[Labels, Matrix]:
    """Assign each row to a near centroid, at most `capacity` rows to each.

    No row and centroid would both rather have each other: rows ask for their nearest centroid that is not full of
    nearer rows; a full centroid sends its farthest row away, which asks again (deferred acceptance, Gale and Shapley
    1962). Ties go to the lower code and the earlier row. Every round costs the distances of the rows without a place.

    Parameters
    ----------
    x : ndarray of shape (n_items, dim), dtype float32
    centroids : ndarray of shape (codebook_size, dim), dtype float32
    capacity : int
        ``capacity * codebook_size >= n_items``.

    Returns
    -------
    labels : ndarray of shape (n_items,), dtype int32
    cost : ndarray of shape (n_items,), dtype float32
        Squared distances.
    """
    labels, cost = np.full(len(x), -1, np.int32), np.full(len(x), np.inf, np.float32)
    limit = np.full(len(centroids), np.inf, np.float32)
    right, norms = np.ascontiguousarray(-2.0 * centroids.T), np.einsum("kd,kd->k", centroids, centroids)
    waiting = np.arange(len(x))
    while len(waiting):

        def ask_block(first: int, last: int) -> None:
            rows = waiting[first:last]  # noqa: B023  the blocks end before the next round begins
            block = x[rows]
            distance = np.maximum(block @ right + norms + np.einsum("nd,nd->n", block, block)[:, None], 0.0)
            distance[distance >= limit] = np.inf
            labels[rows] = distance.argmin(axis=1)
            cost[rows] = distance.min(axis=1)

        for_each_block(ask_block, len(waiting), max(1, BLOCK_FLOATS // max(right.shape)))
        order = np.lexsort((np.arange(len(x)), cost, labels))
        sizes = np.bincount(labels, minlength=len(centroids))
        starts = np.cumsum(sizes) - sizes
        place = np.arange(len(x)) - starts[labels[order]]
        full = np.flatnonzero(sizes >= capacity)
        limit[full] = cost[order[starts[full] + capacity - 1]]
        waiting = np.sort(order[place >= capacity])
    return labels, cost
