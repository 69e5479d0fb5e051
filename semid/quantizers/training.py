"""Codebooks of residual k-means: each level is a k-means on what the levels before left over."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from semid.errors import InvalidValueError
from semid.quantizers.lloyd import run_lloyd
from semid.quantizers.starts import STARTS

__all__ = ["fit_codebooks", "sample_rows"]

Matrix = npt.NDArray[np.float32]


def sample_rows(
    n_items: int, codebook_sizes: Sequence[int], *, sample_size: int | None, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return the rows to train on, in increasing order, as a file is read fastest.

    Parameters
    ----------
    n_items : int
    codebook_sizes : sequence of int
    sample_size : int, optional
        At most so many. None takes 256 per code of the largest codebook, but at least 65,536, at most 262,144, and
        never below 32 per code.
    rng : numpy.random.Generator

    Raises
    ------
    InvalidValueError
        If there are fewer items, or a smaller sample, than codes in a codebook.
    """
    level = int(np.argmax(codebook_sizes))
    size = codebook_sizes[level]
    if n_items < size:
        raise InvalidValueError(
            f"too few items for level {level}: expected at least {size}, its codebook_size, got n_samples={n_items}. "
            "Give more items or lower codebook_size."
        )
    if sample_size is None:
        sample_size = max(32 * size, min(max(65_536, 256 * size), 262_144))
    elif sample_size < size:
        raise InvalidValueError(
            f"sample_size is too small for level {level}: expected at least {size}, its codebook_size, got "
            f"{sample_size}. Raise sample_size or leave it None."
        )
    if n_items <= sample_size:
        return np.arange(n_items)
    return np.sort(rng.choice(n_items, sample_size, replace=False, shuffle=False))


def fit_codebooks(
    residual: Matrix,
    codebook_sizes: Sequence[int],
    *,
    init: str,
    max_iter: int,
    rng: np.random.Generator,
    progress: bool = False,
) -> tuple[tuple[Matrix, ...], int]:
    """Learn one codebook per level.

    Parameters
    ----------
    residual : ndarray of shape (n_items, dim), dtype float32
        The training rows. Overwritten by what all levels together leave over.
    codebook_sizes : sequence of int
    init : {"progressive", "k-means++"}
    max_iter : int
        Most Lloyd steps per level.
    rng : numpy.random.Generator
    progress : bool, default=False
        Show a bar over the levels, on a terminal only.

    Returns
    -------
    codebooks : tuple of ndarray of shape (codebook_size, dim), dtype float32
        Where a level has fewer distinct residuals than codes, the spare codes are zero vectors: they add nothing.
    n_iter : int
        Most Lloyd steps that a level took.
    """
    codebooks, n_iter = [], 0
    for size in tqdm(codebook_sizes, desc="levels", disable=None if progress else True):
        distinct = distinct_rows(residual, limit=size)
        if len(distinct) <= size:
            codebook = np.zeros((size, residual.shape[1]), np.float32)
            codebook[: len(distinct)] = distinct
            residual[:] = 0.0
        else:
            # Distances to centred points keep more digits, and level 0 may lie far from the origin.
            mean = residual.mean(axis=0, dtype=np.float64).astype(np.float32)
            residual -= mean
            centroids, labels, steps = run_lloyd(residual, STARTS[init](residual, size, rng), max_iter=max_iter)
            n_iter = max(n_iter, steps)
            subtract_centroids(residual, centroids, labels)
            codebook = centroids + mean
        codebooks.append(codebook)
    return tuple(codebooks), n_iter


def distinct_rows(x: Matrix, *, limit: int) -> Matrix:
    """Return the distinct rows in order of appearance, and stop looking after ``limit + 1`` of them."""
    first: dict[bytes, int] = {}
    for row in range(len(x)):
        first.setdefault((x[row] + 0.0).tobytes(), row)  # + 0.0 makes -0.0 and 0.0 one
        if len(first) > limit:
            break
    return x[list(first.values())]


def subtract_centroids(residual: Matrix, centroids: Matrix, labels: npt.NDArray[np.integer[Any]]) -> None:
    """Subtract each row's centroid, in place and by blocks."""
    for first in range(0, len(residual), 4096):
        block = slice(first, first + 4096)
        residual[block] -= centroids[labels[block]]
