"""Centroids of all levels re-estimated together: each level on what all others leave over."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from semid.quantizers.lloyd import assign_clusters, cluster_means
from semid.quantizers.threads import for_each_block

__all__ = ["refine_codebooks", "refine_jointly", "subtract_centroids"]

Matrix = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]
BLOCK_ROWS = 4096
SWEEPS = 2


def refine_jointly(
    residual: Matrix, codebooks: Sequence[Matrix], labels: Sequence[Labels], *, rounds: int
) -> tuple[tuple[Matrix, ...], tuple[Labels, ...]]:
    """Return codebooks of less distortion and the codes that a greedy search gives with them.

    Each round refines the codebooks for the codes, then takes the codes anew, as an encoder will.

    Parameters
    ----------
    residual : ndarray of shape (n_items, dim), dtype float32
        What all levels leave over. Overwritten by what they leave over afterwards.
    codebooks : sequence of ndarray of shape (codebook_size, dim), dtype float32
    labels : sequence of ndarray of shape (n_items,), dtype int32
        Codes of each level.
    rounds : int
    """
    books, codes = tuple(codebooks), tuple(labels)
    for _ in range(rounds):
        books = refine_codebooks(residual, books, codes, sweeps=SWEEPS)
        for book, level_codes in zip(books, codes, strict=True):
            subtract_centroids(residual, -book, level_codes)
        codes = tuple(take_nearest(residual, book) for book in books)
    return books, codes


def take_nearest(residual: Matrix, codebook: Matrix) -> Labels:
    """Subtract the nearest centroid of each row, in place, and return the codes."""
    # Distances to centred points keep more digits, and a first level may lie far from the origin.
    shift = codebook.mean(axis=0, dtype=np.float64).astype(np.float32)
    residual -= shift
    centroids = codebook - shift
    labels, _ = assign_clusters(residual, centroids, np.einsum("nd,nd->n", residual, residual))
    subtract_centroids(residual, centroids, labels)
    return labels


def refine_codebooks(
    residual: Matrix, codebooks: Sequence[Matrix], labels: Sequence[Labels], *, sweeps: int
) -> tuple[Matrix, ...]:
    """Return codebooks of less distortion for the same codes, by alternating least squares.

    The centroids of a level were the means of what the levels before it left over, and know nothing of the later ones.
    Given all codes, the best centroid of a level is the mean of what all other levels leave over; this is the codebook
    update of additive quantization (Babenko and Lempitsky 2014, section 3). It costs no distances.

    Parameters
    ----------
    residual : ndarray of shape (n_items, dim), dtype float32
        What all levels leave over. Overwritten by what they leave over afterwards.
    codebooks : sequence of ndarray of shape (codebook_size, dim), dtype float32
    labels : sequence of ndarray of shape (n_items,), dtype int32
        Codes of each level.
    sweeps : int
        Passes over the levels.
    """
    books = list(codebooks)
    for _ in range(sweeps):
        for level, codes in enumerate(labels):
            subtract_centroids(residual, -books[level], codes)
            means, sizes = cluster_means(residual, codes, len(books[level]))
            books[level] = np.where((sizes > 0)[:, None], means, books[level])
            subtract_centroids(residual, books[level], codes)
    return tuple(books)


def subtract_centroids(residual: Matrix, centroids: Matrix, labels: Labels) -> None:
    """Subtract each row's centroid, in place and by blocks."""

    def subtract_block(first: int, last: int) -> None:
        residual[first:last] -= centroids[labels[first:last]]

    for_each_block(subtract_block, len(residual), BLOCK_ROWS)
