"""The rotation of optimized product quantization: variance spread over the slices, then fitted to the codebooks."""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import eigh, svd

from semid._arrays import Matrix
from semid._threads import one_blas_thread
from semid.quantizers.lloyd import run_lloyd
from semid.quantizers.product_space import rotate
from semid.quantizers.starts import plus_plus_start

__all__ = ["ROTATIONS", "learn_rotation"]

ROTATIONS = (None, "opq")
ROWS_PER_CODE = 64
ROUNDS = 12
FIRST_STEPS, NEXT_STEPS = 8, 2


def learn_rotation(
    x: Matrix, codebook_sizes: Sequence[int], columns: Sequence[slice], *, rng: np.random.Generator
) -> Matrix:
    """Return an orthonormal matrix after which product quantization leaves less distortion (Ge et al. 2013).

    It starts from the principal axes, dealt out so that the slices have about equal products of variances (section
    3.2, optimal for Gaussian data), then takes turns: codebooks for the rotation, and the rotation that brings the rows
    nearest to their decoded codes, an orthogonal Procrustes problem (section 3.1). At most 64 rows per code are used.

    Parameters
    ----------
    x : ndarray of shape (n_items, dim), dtype float32
    codebook_sizes : sequence of int
    columns : sequence of slice
        One per level.
    rng : numpy.random.Generator

    Returns
    -------
    rotation : ndarray of shape (dim, dim), dtype float32
        Embeddings times this are sliced.
    """
    n_rows = min(len(x), max(ROWS_PER_CODE * max(codebook_sizes), 2 * x.shape[1]))
    rows = x[rng.choice(len(x), n_rows, replace=False, shuffle=False)]
    rows = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    rotation = _spread_variance(rows, columns)
    books: list[Matrix] = []
    for turn in range(ROUNDS):
        rotated, decoded = rotate(rows, rotation), np.empty_like(rows)
        for level, part in enumerate(columns):
            piece = np.ascontiguousarray(rotated[:, part])
            if turn == 0:
                books.append(plus_plus_start(piece, codebook_sizes[level], rng))
            books[level], labels, _ = run_lloyd(piece, books[level], max_iter=NEXT_STEPS if turn else FIRST_STEPS)
            decoded[:, part] = books[level][labels]
        with one_blas_thread:
            left, _, right = svd(rows.T @ decoded)
            rotation = np.ascontiguousarray(left @ right, dtype=np.float32)
    return rotation


def _spread_variance(x: Matrix, columns: Sequence[slice]) -> Matrix:
    """Return the principal axes in an order that gives every slice about the same product of variances."""
    with one_blas_thread:
        variances, axes = eigh(x.T @ x)
    room = [part.stop - part.start for part in columns]
    logs = np.zeros(len(columns))
    chosen: list[list[int]] = [[] for _ in columns]
    for axis in range(len(variances) - 1, -1, -1):
        open_levels = [level for level in range(len(columns)) if len(chosen[level]) < room[level]]
        level = min(open_levels, key=lambda each: (logs[each], each))
        chosen[level].append(axis)
        # Relative to the least variance, so that logarithms are positive and a slice with fewer axes comes first.
        logs[level] += np.log(max(variances[axis], 1e-30)) - np.log(max(variances[0], 1e-30)) + 1e-9
    return np.ascontiguousarray(axes[:, [axis for axes_of in chosen for axis in axes_of]], dtype=np.float32)
