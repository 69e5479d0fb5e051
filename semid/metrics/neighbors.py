"""Neighbour recall: whether items near each other stay near each other after quantization."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from semid._arrays import DoubleArray, FloatArray, Int64Array
from semid._progress import progress_bar

__all__ = ["Vectors", "neighbor_recall"]

# Items' vectors by position: (slice or index array) -> (n, dim).
Vectors = Callable[[Any], FloatArray]

# Distances held at once, per space: 32 MiB of float64, whatever the catalogue's size.
BLOCK_DISTANCES = 2**22
# Distances that differ by less than this, relative to the squared norms, are ties: float64 rounding at dim 1,000.
TIE_TOLERANCE = 1e-12


def neighbor_recall(rows: Vectors, decoded: Vectors, queries: Int64Array, *, n_items: int, k: int) -> float:
    """Return the mean share of the queries' k nearest items that are also among the k nearest after decoding.

    An item as near as the k-th nearest embedding counts as a neighbour too, so duplicates in the catalogue cost
    nothing. Decoded embeddings tie whenever items collide; the value is then the expectation over random order inside
    the tie, so that a quantizer which sends all items to one code scores what guessing scores, ``k / (n_items - 1)``.

    Parameters
    ----------
    rows, decoded : callable
        Position -> vectors of shape (n, dim), in the embedding and in the decoded space.
    queries : ndarray of shape (n_queries,), dtype int64
        Positions of the items whose neighbours are compared; an item is not its own neighbour.
    n_items : int
        At least ``k + 1``.
    k : int

    Returns
    -------
    recall : float
        Between 0 and 1.
    """
    with progress_bar("neighbor recall", total=4 * n_items) as bar:  # two passes over each of two spaces
        return _recall(rows, decoded, queries, n_items, k, bar)


def _recall(rows: Vectors, decoded: Vectors, queries: Int64Array, n_items: int, k: int, bar: Any) -> float:
    near = _Ball(rows, queries, n_items, k, bar)
    near_decoded = _Ball(decoded, queries, n_items, k, bar)
    certain, tied, certain_true, tied_true = np.zeros((4, len(queries)), dtype=np.int64)
    # Counting in a second pass instead of keeping sets of neighbours: ties make those sets as large as the catalogue.
    for (distance, _), (distance_decoded, _) in zip(near.blocks(), near_decoded.blocks(), strict=True):
        is_true = distance <= (near.radius + near.tolerance)[:, None]
        inside = distance_decoded < (near_decoded.radius - near_decoded.tolerance)[:, None]
        border = (distance_decoded <= (near_decoded.radius + near_decoded.tolerance)[:, None]) & ~inside
        certain += inside.sum(axis=1)
        tied += border.sum(axis=1)
        certain_true += (inside & is_true).sum(axis=1)
        tied_true += (border & is_true).sum(axis=1)
    return float(np.mean((certain_true + tied_true * (k - certain) / tied) / k))


class _Ball:
    """The ball around each query that reaches to its k-th nearest item: squared radius, and distances by blocks."""

    def __init__(self, rows: Vectors, queries: Int64Array, n_items: int, k: int, bar: Any) -> None:
        self.rows, self.queries, self.n_items, self.bar = rows, queries, n_items, bar
        points = np.asarray(rows(queries), dtype=np.float64)
        # |a - b|^2 = |a|^2 - 2ab + |b|^2 loses digits when all points are far from zero; a common shift repairs it.
        self.shift = points.mean(axis=0)
        self.points = points - self.shift
        self.norms = np.einsum("ij,ij->i", self.points, self.points)
        nearest = np.full((len(queries), k), np.inf)
        largest_norm = 0.0
        for distance, block_norm in self.blocks():
            largest_norm = max(largest_norm, block_norm)
            both = np.concatenate([nearest, distance], axis=1)
            both.partition(k - 1, axis=1)
            nearest = both[:, :k].copy()
        self.radius: DoubleArray = nearest.max(axis=1)
        self.tolerance: DoubleArray = TIE_TOLERANCE * (self.norms + largest_norm)

    def blocks(self) -> Iterator[tuple[DoubleArray, float]]:
        """Yield squared distances (n_queries, block) with the block's largest squared norm; inf from item to itself."""
        size = max(1, BLOCK_DISTANCES // len(self.queries))
        for start in range(0, self.n_items, size):
            stop = min(start + size, self.n_items)
            items = np.asarray(self.rows(slice(start, stop)), dtype=np.float64) - self.shift
            norms = np.einsum("ij,ij->i", items, items)
            distance = self.points @ items.T
            distance *= -2.0
            distance += self.norms[:, None]
            distance += norms
            own = np.flatnonzero((self.queries >= start) & (self.queries < stop))
            distance[own, self.queries[own] - start] = np.inf
            yield distance, float(norms.max())
            self.bar.update(stop - start)
