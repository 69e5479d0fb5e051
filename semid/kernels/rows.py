"""Kernels on whole rows: a hash of their content."""

import numpy as np
import numpy.typing as npt

from semid._arrays import Array
from semid.kernels.compile import njit

__all__ = ["hash_rows"]


@njit
def hash_rows(bits: npt.NDArray[np.uint32], hashes: Array) -> None:
    """Mix each row of ``float32`` bits into one number, on top of what `hashes` holds; 0.0 and -0.0 are the same.

    Parameters
    ----------
    bits : ndarray of shape (n_rows, dim), dtype uint32
    hashes : ndarray of shape (n_rows,), dtype int64
        In and out.
    """
    for row in range(bits.shape[0]):
        mixed = hashes[row]
        for d in range(bits.shape[1]):
            word = np.int64(bits[row, d])
            mixed = (mixed ^ (word if word != 0x80000000 else np.int64(0))) * 0x9E3779B97F4A7C1
            mixed ^= (mixed >> 32) & 0xFFFFFFFF
        hashes[row] = mixed
