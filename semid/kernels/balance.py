"""Kernel of the Sinkhorn repair: codes for the items of one collision group, given out equally."""

import numpy as np

from semid._arrays import Array
from semid.kernels.compile import njit

__all__ = ["balance_codes"]


@njit
def balance_codes(distances: Array, epsilon: float, n_iterations: int, codes: Array) -> None:
    """Write for each row the code that it gets most of when all codes are given out equally.

    Parameters
    ----------
    distances : ndarray of shape (n_rows, codebook_size), dtype float64
        Squared distances; overwritten. They are centred and scaled to [-1, 1].
    epsilon : float
    n_iterations : int
        Each scales rows, then columns, to equal sums.
    codes : ndarray of shape (n_rows,), dtype int64
        Out; of equal shares the lower code.
    """
    n_rows, n_codes = distances.shape
    middle = (distances.max() + distances.min()) / 2
    half = distances.max() - middle + 1e-5
    plan = np.exp((middle - distances) / (half * epsilon))
    plan /= plan.sum()
    for _ in range(n_iterations):
        for row in range(n_rows):
            plan[row] /= plan[row].sum() * n_rows
        sums = np.zeros(n_codes)
        for row in range(n_rows):
            sums += plan[row]
        for row in range(n_rows):
            plan[row] /= sums * n_codes
    for row in range(n_rows):
        codes[row] = np.argmax(plan[row])
