"""Kernels of residual k-means: the nearest centroid, sums per cluster, and one level of a beam search."""

import numpy as np

from semid._arrays import Array
from semid.kernels.compile import njit

__all__ = ["extend_beams", "nearest", "sort_by_cluster", "subtract_rows", "sum_clusters"]


@njit
def nearest(products: Array, norms: Array, labels: Array, cost: Array) -> None:
    """Find the least ``norms[k] + products[row, k]`` of each row; ties to the lower code.

    Parameters
    ----------
    products : ndarray of shape (n_rows, codebook_size), dtype float32
        ``-2 <x, c>``.
    norms : ndarray of shape (codebook_size,), dtype float32
        ``|c|^2``.
    labels : ndarray of shape (n_rows,), dtype int32
        Out: the code.
    cost : ndarray of shape (n_rows,), dtype float32
        Out: ``|x - c|^2 - |x|^2``.
    """
    for row in range(products.shape[0]):
        best, code = np.float32(np.inf), 0
        for k in range(norms.shape[0]):
            score = norms[k] + products[row, k]
            if score < best:
                best, code = score, k
        labels[row] = code
        cost[row] = best


@njit
def sort_by_cluster(labels: Array, starts: Array, order: Array) -> None:
    """Sort rows by cluster, rows of one cluster in their order: a counting sort, in place of a stable argsort.

    Parameters
    ----------
    labels : ndarray of shape (n_rows,), dtype int32
    starts : ndarray of shape (n_clusters + 1,), dtype int64
        Where each cluster begins in `order`.
    order : ndarray of shape (n_rows,), dtype int64
        Out: the rows.
    """
    end = starts.copy()
    for row in range(labels.shape[0]):
        order[end[labels[row]]] = row
        end[labels[row]] += 1


@njit
def subtract_rows(x: Array, centroids: Array, labels: Array) -> None:
    """Subtract the centroid of each row, in place.

    Parameters
    ----------
    x : ndarray of shape (n_rows, dim), dtype float32
        In and out.
    centroids : ndarray of shape (n_clusters, dim), dtype float32
    labels : ndarray of shape (n_rows,), dtype int32
    """
    for row in range(x.shape[0]):
        label = labels[row]
        for d in range(x.shape[1]):
            x[row, d] -= centroids[label, d]


@njit
def sum_clusters(x: Array, order: Array, starts: Array, first: int, last: int, sums: Array) -> None:
    """Add up the rows of each cluster from `first` to before `last`, in the order given.

    Parameters
    ----------
    x : ndarray of shape (n_rows, dim), dtype float32
    order : ndarray of shape (n_rows,), integer dtype
        Rows sorted by cluster.
    starts : ndarray of shape (n_clusters + 1,), integer dtype
        Where each cluster begins in `order`.
    first, last : int
    sums : ndarray of shape (n_clusters, dim), dtype float64
        Out.
    """
    for cluster in range(first, last):
        sums[cluster] = 0.0
        for position in range(starts[cluster], starts[cluster + 1]):
            row = order[position]
            for d in range(x.shape[1]):
                sums[cluster, d] += x[row, d]


@njit
def sift_down(cost: Array, source: Array, size: int) -> None:
    """Restore a heap, whose root is its worst entry, after the root has changed."""
    node = 0
    while True:
        worst = node
        for child in (2 * node + 1, 2 * node + 2):
            # Of equal costs the later source is worse, so that ties go to the lower code.
            if child < size and (
                cost[child] > cost[worst] or (cost[child] == cost[worst] and source[child] > source[worst])
            ):
                worst = child
        if worst == node:
            return
        cost[node], cost[worst] = cost[worst], cost[node]
        source[node], source[worst] = source[worst], source[node]
        node = worst


@njit
def extend_beams(
    products: Array,
    first: int,
    norms: Array,
    cross: Array,
    offsets: Array,
    paths: Array,
    cost: Array,
    scores: Array,
    source: Array,
    new_paths: Array,
    new_cost: Array,
) -> None:
    """Extend the beams of every row by one level and keep the best, best first.

    A beam that chose the centroids ``c_m`` and takes ``c`` next costs ``|c|^2 - 2 <x, c> + 2 sum_m <c_m, c>`` more.

    Parameters
    ----------
    products : ndarray of shape (n_rows, 1 or num_beams, n_columns), dtype float32
        ``-2 <x, c>`` from column `first` on; ``x`` is the embedding, or each beam's residual.
    first : int
    norms : ndarray of shape (codebook_size,), dtype float32
        ``|c|^2``.
    cross : ndarray of shape (sum of earlier codebook sizes, codebook_size), dtype float32
        ``2 <c_m, c>``.
    offsets : ndarray of shape (level,) or (0,), dtype int64
        Where each earlier level begins in `cross`; empty if `products` are those of residuals.
    paths : ndarray of shape (n_rows, num_beams, level), dtype int32
    cost : ndarray of shape (n_rows, num_beams), dtype float32
    scores : ndarray of shape (codebook_size,), dtype float32
        Scratch.
    source : ndarray of shape (kept,), dtype int64
        Scratch; ``kept <= num_beams * codebook_size``.
    new_paths : ndarray of shape (n_rows, kept, level + 1), dtype int32
        Out.
    new_cost : ndarray of shape (n_rows, kept), dtype float32
        Out. Ties go to the better beam, then to the lower code.
    """
    n_codes, kept, level = norms.shape[0], source.shape[0], paths.shape[2]
    per_beam = products.shape[1] > 1
    for row in range(products.shape[0]):
        best = new_cost[row]
        best[:] = np.inf
        for place in range(kept):
            source[place] = kept - 1 - place  # a heap of equal costs; each names a real code, should scores overflow
        for beam in range(paths.shape[1]):
            # Slices, since an index of `first + k` is tested for its sign at each turn.
            own = products[row, beam if per_beam else 0, first : first + n_codes]
            start = cost[row, beam]
            for k in range(n_codes):
                scores[k] = start + norms[k] + own[k]
            for m in range(offsets.shape[0]):
                earlier = cross[offsets[m] + paths[row, beam, m]]
                for k in range(n_codes):
                    scores[k] += earlier[k]
            worst = best[0]
            for k in range(n_codes):
                if scores[k] < worst:
                    best[0] = scores[k]
                    source[0] = beam * n_codes + k
                    sift_down(best, source, kept)
                    worst = best[0]
        for size in range(kept - 1, 0, -1):  # heap sort: the worst goes to the end
            best[0], best[size] = best[size], best[0]
            source[0], source[size] = source[size], source[0]
            sift_down(best, source, size)
        for place in range(kept):
            beam = source[place] // n_codes
            new_paths[row, place, :level] = paths[row, beam, :level]
            new_paths[row, place, level] = source[place] - beam * n_codes
