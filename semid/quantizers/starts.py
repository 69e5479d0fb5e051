"""Where the centroids of one level begin: progressive or k-means++."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from sklearn.cluster import kmeans_plusplus

from semid.quantizers.lloyd import cluster_means, run_lloyd
from semid.quantizers.threads import for_each_block, one_blas_thread

__all__ = ["STARTS", "plus_plus_start", "principal_axes", "progressive_start"]

Matrix = npt.NDArray[np.float32]
AXES_ROWS = 16_384
# Rows per code that k-means++ draws from; it is sequential, and with all rows it would outlast the Lloyd steps.
ROWS_PER_CODE = 64
PROJECTED_STEPS = 8


def plus_plus_start(x: Matrix, codebook_size: int, rng: np.random.Generator) -> Matrix:
    """Draw each centroid far from those before it, by greedy k-means++ on at most 64 rows per code.

    Parameters
    ----------
    x : ndarray of shape (n_items, dim), dtype float32
        Centred.
    codebook_size : int
    rng : numpy.random.Generator

    Returns
    -------
    centroids : ndarray of shape (codebook_size, dim), dtype float32
    """
    rows = rng.choice(len(x), min(len(x), ROWS_PER_CODE * codebook_size), replace=False, shuffle=False)
    with one_blas_thread:
        centroids, _ = kmeans_plusplus(x[rows], codebook_size, random_state=int(rng.integers(2**31)))
    return np.ascontiguousarray(centroids, dtype=np.float32)


def progressive_start(x: Matrix, codebook_size: int, rng: np.random.Generator) -> Matrix:
    """Find the clusters along the strongest principal axes first: k-means++ and a few Lloyd steps there.

    In many dimensions all residuals are about equally far from each other, so that a start in all of them gives codes
    to outliers and leaves most codes of the later levels nearly unused. On 20k clustered embeddings of 384 dimensions
    the perplexity of the three levels is 229, 214, 194 of 256 with this start and 217, 149, 130 with k-means++ in all
    dimensions, 7.2 % instead of 9.0 % of the items collide, and a fit takes 3.8 instead of 10.4 CPU-seconds; the
    distortion is 1.8 % higher. With fewer axes balance and distortion both rise further.

    Parameters
    ----------
    x : ndarray of shape (n_items, dim), dtype float32
        Centred.
    codebook_size : int
    rng : numpy.random.Generator

    Returns
    -------
    centroids : ndarray of shape (codebook_size, dim), dtype float32
    """
    dim = x.shape[1]
    axes = principal_axes(x, min(dim, 128, max(32, dim // 6)))
    projected = np.empty((len(x), axes.shape[1]), np.float32)

    def project_block(first: int, last: int) -> None:
        projected[first:last] = x[first:last] @ axes

    for_each_block(project_block, len(x), 1024)
    centroids = plus_plus_start(projected, codebook_size, rng)
    _, labels, _ = run_lloyd(projected, centroids, max_iter=PROJECTED_STEPS)
    return cluster_means(x, labels, codebook_size)[0]


def principal_axes(x: Matrix, n_axes: int) -> Matrix:
    """Return the directions of largest variance, strongest first, from about 16,384 rows.

    Parameters
    ----------
    x : ndarray of shape (n_items, dim), dtype float32
        Centred.
    n_axes : int

    Returns
    -------
    axes : ndarray of shape (dim, n_axes), dtype float32
    """
    rows, dim = x[:: -(-len(x) // AXES_ROWS)], x.shape[1]
    with one_blas_thread:
        _, axes = eigh(rows.T @ rows, subset_by_index=(dim - n_axes, dim - 1))
    return np.ascontiguousarray(axes[:, ::-1], dtype=np.float32)


STARTS: dict[str, Callable[[Matrix, int, np.random.Generator], Matrix]] = {
    "progressive": progressive_start,
    "k-means++": plus_plus_start,
}
