"""Codebooks that follow a stream: each batch moves the centroids to the means of all rows so far."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from semid._arrays import Int64Array, Matrix
from semid.quantizers.lloyd import assign_clusters, cluster_means, worst_served
from semid.quantizers.refine import subtract_centroids

__all__ = ["absorb_batch", "absorb_level"]

# A code that has less than this share of the rows of an average code is moved to where it is needed.
IDLE_SHARE = 0.01


def absorb_batch(
    batch: Matrix, codebooks: Sequence[Matrix], counts: Sequence[Int64Array]
) -> tuple[tuple[Matrix, ...], tuple[Int64Array, ...]]:
    """Return the codebooks of residual levels after a batch of embeddings, and how many rows stand behind each code.

    Parameters
    ----------
    batch : ndarray of shape (n_rows, dim), dtype float32
        Overwritten by what the new codebooks leave over.
    codebooks : sequence of ndarray of shape (codebook_size, dim), dtype float32
    counts : sequence of ndarray of shape (codebook_size,), dtype int64
    """
    books, sizes = [], []
    for codebook, count in zip(codebooks, counts, strict=True):
        centroids, labels, total = absorb_level(batch, codebook, count)
        subtract_centroids(batch, [centroids], [labels])
        books.append(centroids)
        sizes.append(total)
    return tuple(books), tuple(sizes)


def absorb_level(x: Matrix, codebook: Matrix, counts: Int64Array) -> tuple[Matrix, npt.NDArray[np.int32], Int64Array]:
    """Return one codebook, the nearest codes of the rows before it moved, and its counts, after a batch.

    A centroid becomes the mean of the rows it has taken so far, this batch among them (mini-batch k-means, Sculley
    2010). A code with less than 1 % of an average code's rows moves to the row that is served worst.
    """
    shift = codebook.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = x - shift
    labels, cost = assign_clusters(centred, codebook - shift, np.einsum("nd,nd->n", centred, centred))
    means, sizes = cluster_means(x, labels, len(codebook))
    total = counts + sizes
    share = (sizes / np.maximum(total, 1)).astype(np.float32)[:, None]
    centroids = codebook + share * (means - codebook)
    idle = np.flatnonzero(total < IDLE_SHARE * total.mean())
    worst = worst_served(x, cost, len(idle)) if len(idle) else idle
    revived = idle[: len(worst)]
    centroids[revived] = x[worst]
    total[revived] = 1
    return centroids, labels, total
