"""Distortion: the mean squared distance between embeddings and what their codes decode to, in float64."""

from collections.abc import Callable, Iterator

import numpy as np

from semid._arrays import CodeArray, DoubleArray, FloatArray

__all__ = ["Decode", "decoded_distortion", "distortion_by_level", "variance"]

Decode = Callable[[CodeArray], FloatArray]

# Rows turned into float64 at once.
BLOCK_ROWS = 8192


def _blocks(n_items: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK_ROWS) for start in range(0, n_items, BLOCK_ROWS))


def variance(X: FloatArray) -> float:
    """Return the mean squared distance of rows (n_items, dim) to their mean; exactly 0.0 where all are equal."""
    # Relative to the first row, equal rows are exactly zero and their variance is, too.
    origin = X[0].astype(np.float64)
    mean = sum((X[rows] - origin).sum(axis=0) for rows in _blocks(len(X))) / len(X)
    total = 0.0
    for rows in _blocks(len(X)):
        total += float(np.square(X[rows] - origin - mean).sum())
    return total / len(X)


def distortion_by_level(X: FloatArray, codes: CodeArray, codebooks: tuple[FloatArray, ...]) -> DoubleArray:
    """Return the distortion of the sum of the centroids up to each level, shape (n_levels,), dtype float64."""
    total = np.zeros(len(codebooks))
    for rows in _blocks(len(X)):
        rest = X[rows].astype(np.float64)
        for level, codebook in enumerate(codebooks):
            rest -= codebook[codes[rows, level]]
            total[level] += np.square(rest).sum()
    return total / len(X)


def decoded_distortion(X: FloatArray, codes: CodeArray, decode: Decode) -> float:
    """Return the mean squared distance between rows (n_items, dim) and what `decode` makes of their codes."""
    total = 0.0
    for rows in _blocks(len(X)):
        total += float(np.square(X[rows].astype(np.float64) - decode(codes[rows])).sum())
    return total / len(X)
