"""Arrays from outside: embeddings and codes, checked once at the border."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import CodeArray
from semid.errors import InvalidTypeError, InvalidValueError
from semid.io.batches import is_stream, iter_batches
from semid.io.matrices import as_array, float_block, open_matrix

__all__ = [
    "check_codes",
    "check_embeddings",
    "code_dtype",
    "float_block",
    "open_embeddings",
]


def code_dtype(codebook_size: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the smallest unsigned dtype that holds the codes ``0 .. codebook_size - 1``."""
    return np.min_scalar_type(codebook_size - 1)


def open_embeddings(
    X: Any, *, name: str = "X", dim: int | None = None, min_items: int = 1
) -> npt.NDArray[np.number[Any]]:
    """Return embeddings as a matrix without reading or copying what need not be.

    Parameters
    ----------
    X : ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file, or array-like of shape (n_items, dim)
        Real numbers of any dtype. A ``.npy`` file is memory-mapped. A path of a ``.parquet`` file, with ``::column``
        where it has several columns of lists, and an iterable of matrices are read as a whole.
    name : str
        What messages call `X`.
    dim : int, optional
        Number of columns that is required.
    min_items : int, default=1
        Number of rows that is required.

    Returns
    -------
    X : ndarray of shape (n_items, dim), any real dtype
        Its values are not checked; `float_block` does so for the rows that it takes.

    Raises
    ------
    InvalidValueError
        If the shape is wrong, or the file is missing or holds no array.
    InvalidTypeError
        If `X` does not hold real numbers.
    """
    if is_stream(X):
        X = np.concatenate(list(iter_batches(X, name=name)))
    return open_matrix(X, name=name, dim=dim, min_items=min_items)


def check_embeddings(X: Any, *, name: str = "X", dim: int | None = None, min_items: int = 1) -> npt.NDArray[np.float32]:
    """Return embeddings as one finite float32 matrix in C order.

    Parameters
    ----------
    X : ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file, or array-like of shape (n_items, dim)
        float32 in C order is returned as it is, memory-mapped where it was.
    name, dim, min_items
        As in `open_embeddings`.

    Returns
    -------
    X : ndarray of shape (n_items, dim), dtype float32
        May be read-only.

    Raises
    ------
    InvalidValueError
        If the shape is wrong, the file is missing, or a value is not finite; the message names the first bad row.
    InvalidTypeError
        If `X` does not hold real numbers.
    """
    return float_block(open_embeddings(X, name=name, dim=dim, min_items=min_items), slice(0, None), name=name)


def check_codes(codes: Any, codebook_sizes: Sequence[int], *, name: str = "codes") -> CodeArray:
    """Return codes as a matrix of the smallest unsigned dtype that holds them.

    Parameters
    ----------
    codes : array-like of shape (n_items, n_levels), any integer dtype
    codebook_sizes : sequence of int
        One per level.
    name : str
        What messages call `codes`.

    Returns
    -------
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype, C order

    Raises
    ------
    InvalidValueError
        If the shape is wrong, or a code is not below the codebook size of its level.
    InvalidTypeError
        If the codes are not integers.
    """
    codes = as_array(codes, name)
    if codes.ndim != 2 or codes.shape[1] != len(codebook_sizes):
        raise InvalidValueError(
            f"{name} has a wrong shape: expected (n_items, {len(codebook_sizes)}), got {codes.shape}. Pass one row per "
            "item and one column per level."
        )
    if codes.dtype.kind not in "iu":
        if codes.size:
            raise InvalidTypeError(
                f"{name} has a wrong dtype: expected integers, got {codes.dtype}. Convert whole numbers with astype."
            )
        codes = codes.astype(np.uint8)
    outside = (codes < 0) | (codes >= np.asarray(codebook_sizes))
    if outside.any():
        row, level = (int(index) for index in np.argwhere(outside)[0])
        raise InvalidValueError(
            f"{name} lies outside the codebook: expected 0 to {codebook_sizes[level] - 1} at level {level}, got "
            f"{codes[row, level]} in row {row}. Encode with the same quantizer."
        )
    return np.ascontiguousarray(codes, dtype=code_dtype(max(codebook_sizes)))
