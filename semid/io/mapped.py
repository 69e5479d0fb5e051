"""Memory-mapped files read from end to end without staying in memory."""

import mmap
from typing import Any

import numpy as np

from semid._arrays import Array, IntArray

__all__ = ["drop_pages", "take_rows"]

# Pages of a mapping count as memory of the process until they are dropped; dropping them costs a system call.
PIECE_BYTES = 1 << 24


def drop_pages(X: Array) -> None:
    """Let go of the pages of a memory-mapped file that were read; they are read again when needed.

    Nothing happens for other arrays, and for a mapping whose changes are not written to the file, which dropping
    would lose.
    """
    mapped = mapping_of(X)
    if mapped is not None and mapped.mode in ("r", "r+") and hasattr(mmap, "MADV_DONTNEED"):
        mapped._mmap.madvise(mmap.MADV_DONTNEED)


def mapping_of(X: Any) -> Any:
    """Return the np.memmap that an array is a view of, itself perhaps, or None."""
    while X is not None and not isinstance(X, np.memmap):
        X = getattr(X, "base", None)
    return X


def take_rows(X: Array, rows: IntArray) -> Array:
    """Return copies of some rows; of a memory-mapped file no more than about 16 MiB stay in memory besides.

    Parameters
    ----------
    X : ndarray of shape (n_items, dim)
    rows : ndarray of shape (n_rows,), integer dtype
    """
    if mapping_of(X) is None:
        return np.asarray(X[rows])
    taken = np.empty((len(rows), *X.shape[1:]), X.dtype)
    # One row may bring in the pages around it, 64 KiB at a time.
    step = max(1, PIECE_BYTES // (1 << 16))
    for first in range(0, len(rows), step):
        taken[first : first + step] = X[rows[first : first + step]]
        drop_pages(X)
    return taken
