"""Policy "suffix": one more level that counts the items of a collision group; TIGER (arXiv:2305.05065), section 3.1."""

from collections.abc import Iterable

import numpy as np

from semid._arrays import Array, CodeArray, Int64Array
from semid.collisions.counting import positions_in_groups
from semid.collisions.keys import RowNumbers
from semid.io.matrices import code_dtype

__all__ = ["append_suffix", "suffix_size", "suffixes"]


def suffixes(codes: Array, codebook_sizes: tuple[int, ...], taken: Array | None) -> Int64Array:
    """Return the suffix of each item, in row order from 0; behind the largest one that its group has published.

    Parameters
    ----------
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype
    codebook_sizes : tuple of int
    taken : ndarray of shape (n_taken, n_levels + 1), unsigned integer dtype, optional

    Returns
    -------
    suffixes : ndarray of shape (n_items,), dtype int64
    """
    numbers = RowNumbers(codebook_sizes)
    used = numbers.number(taken[:, :-1]) if taken is not None else np.empty(0, dtype=np.int64)
    groups = numbers.number(codes)
    offsets = np.zeros(len(numbers), dtype=np.int64)
    if taken is not None:
        np.maximum.at(offsets, used, taken[:, -1].astype(np.int64) + 1)
    return positions_in_groups(groups) + offsets[groups]


def suffix_size(columns: Iterable[Array]) -> int:
    """Return how many codes the level of the suffix needs for all of these columns."""
    return 1 + max(int(column.max(initial=0)) for column in columns)


def append_suffix(codes: Array, suffix: Int64Array, codebook_sizes: tuple[int, ...]) -> CodeArray:
    """Return codes with the suffix as last level, in the smallest dtype that fits `codebook_sizes`."""
    return np.column_stack([codes, suffix]).astype(code_dtype(max(codebook_sizes)))
