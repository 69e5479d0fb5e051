"""The two spaces of product quantization: slices of the rotated columns, and the columns of the embeddings."""

from collections.abc import Sequence

import numpy as np

from semid._arrays import Matrix
from semid._threads import one_blas_thread
from semid.quantizers.training import Learnt

__all__ = ["full_space", "rotate", "split_columns"]


def split_columns(dim: int, n_levels: int) -> tuple[slice, ...]:
    """Return the columns of each level: as many for all, and one more for the first ``dim % n_levels``."""
    ends = np.cumsum([dim // n_levels + (level < dim % n_levels) for level in range(n_levels)]).tolist()
    return tuple(slice(first, last) for first, last in zip([0, *ends[:-1]], ends, strict=True))


def rotate(x: Matrix, rotation: Matrix | None) -> Matrix:
    """Return the rotated rows, or the rows themselves without a rotation."""
    if rotation is None:
        return x
    with one_blas_thread:
        return x @ rotation


def full_space(learnt: Learnt) -> tuple[Matrix, ...]:
    """Return codebooks of shape (codebook_size, dim), whose chosen centroids add up to the decoded embedding."""
    if learnt.columns is None:
        return learnt.codebooks
    books: Sequence[Matrix] = learnt.codebooks
    dim = learnt.columns[-1].stop
    wide = [np.zeros((len(book), dim), np.float32) for book in books]
    for book, columns, target in zip(books, learnt.columns, wide, strict=True):
        target[:, columns] = book
    back = None if learnt.rotation is None else np.ascontiguousarray(learnt.rotation.T)
    return tuple(rotate(book, back) for book in wide)
