"""Published policies to compare with: TIGER's level that counts collisions, GenSAR's balanced repair."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, CodeArray, Int64Array
from semid._checks import code_dtype
from semid.collisions.keys import RowNumbers, positions_in_groups
from semid.collisions.space import AdditiveSpace, ResolvableQuantizer, additive_space
from semid.errors import InvalidValueError
from semid.kernels.balance import balance_codes

__all__ = ["append_suffix", "balance_last_level", "suffix_size", "suffixes"]


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


# As published with GenSAR (arXiv:2504.05730).
ROUNDS, ITERATIONS, EPSILON = 20, 50, 0.003


def balance_last_level(
    quantizer: ResolvableQuantizer,
    X: npt.NDArray[np.float32],
    codes: Array,
    prefixes: Array | None = None,
) -> Array:
    """Give the items of each collision group new last codes, up to 20 times; the codes before them stay.

    In every round each group is balanced by itself: entropic optimal transport gives each of its items an equal share,
    and takes from each code an equal share, whoever else has the codes. So items may land on IDs of others, items
    that are equal stay together, and a prefix with more items than codes cannot come right.

    Parameters
    ----------
    quantizer : ResolvableQuantizer
    X : ndarray of shape (n_items, dim), dtype float32
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype
    prefixes : ndarray of shape (n_items, n_shared), unsigned integer dtype, optional
        Codes before these, which tell items apart, too.

    Returns
    -------
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype

    Raises
    ------
    InvalidValueError
        If the quantizer does not decode IDs to sums of centroids.
    """
    space = additive_space(quantizer, X)
    if space is None:
        raise InvalidValueError(
            "policy 'sinkhorn' needs distances at the last level: expected a quantizer whose decode is a sum of "
            f"centroids, got {type(quantizer).__name__}. Choose policy 'nearest'."
        )
    codes = codes.copy()
    sizes = tuple(quantizer.codebook_sizes)
    rest = space.rest(codes[:, :-1])
    before = np.zeros(len(codes), dtype=np.int64)
    if prefixes is not None and prefixes.shape[1]:
        before = RowNumbers([int(column.max()) + 1 for column in prefixes.T]).number(prefixes)
    for _ in range(ROUNDS):
        numbers = RowNumbers(sizes, n_groups=int(before.max()) + 1).number(codes, before)
        counts = np.bincount(numbers)
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(counts)
        groups = [order[end - count : end] for end, count in zip(ends, counts, strict=True) if count > 1]
        if not groups:
            break
        for members in groups:
            codes[members, -1] = balanced(rest, members)
    return codes


def balanced(rest: AdditiveSpace, members: Int64Array) -> Int64Array:
    """Return the balanced last codes of some items."""
    Z, book = rest.Z[members].astype(np.float64), rest.codebooks[0].astype(np.float64)
    distances = np.einsum("nd,nd->n", Z, Z)[:, None] - 2 * Z @ book.T + np.einsum("kd,kd->k", book, book)
    codes = np.empty(len(members), dtype=np.int64)
    balance_codes(np.ascontiguousarray(distances), EPSILON, ITERATIONS, codes)
    return codes
