"""Matrices: embeddings and codes opened without reading, checked as rows are taken, mapped files kept out of memory."""

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, CodeArray, IntArray
from semid._checks import as_array, as_integers, code_dtype
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = [
    "check_codes",
    "check_spread",
    "drop_pages",
    "float_block",
    "load_npy",
    "mapping_of",
    "npy_errors",
    "open_matrix",
    "take_rows",
]

# Pages of a mapping count as memory of the process until they are dropped; dropping them costs a system call.
PIECE_BYTES = 1 << 24


def open_matrix(X: Any, *, name: str = "X", dim: int | None = None, min_items: int = 1) -> npt.NDArray[np.number[Any]]:
    """Return embeddings as a matrix, as `open_embeddings` does, from anything but a stream of batches."""
    matrix = load_npy(X, name) if isinstance(X, str | os.PathLike) else as_array(X, name)
    if matrix.ndim != 2:
        raise InvalidValueError(
            f"{name} has a wrong shape: expected (n_items, dim), got {matrix.shape}. Reshape your data; one item is "
            "X.reshape(1, -1)."
        )
    if np.iscomplexobj(matrix):
        raise InvalidValueError(
            f"Complex data not supported: {name} has dtype {matrix.dtype}, expected real numbers. Pass the real part."
        )
    if matrix.dtype.kind not in "biuf":
        matrix = _from_objects(matrix, name)
    if matrix.shape[0] < min_items:
        raise InvalidValueError(
            f"{name} has too few items: expected at least {min_items}, got n_samples={matrix.shape[0]}, shape "
            f"{matrix.shape}. Give more rows."
        )
    if matrix.shape[1] == 0:
        raise InvalidValueError(
            f"{name} is empty: expected a dim of 1 or more, got 0 feature(s) (shape={matrix.shape}) while a minimum of "
            "1 is required. Give embeddings with at least one column."
        )
    if dim is not None and matrix.shape[1] != dim:
        raise InvalidValueError(
            f"{name} has another dim: expected {dim}, got {matrix.shape[1]}. Use the embedding model of the fit."
        )
    return matrix


def npy_errors() -> tuple[type[Exception], ...]:
    """Return what numpy.load raises for a file that is not what it says, needs a key, or more memory than there is."""
    # Imported where a file was wrong: they would make the start of every program slower.
    import tokenize
    import zipfile
    import zlib

    return (
        ValueError, EOFError, OSError, KeyError, MemoryError, NotImplementedError, OverflowError, RuntimeError,
        SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
    )  # fmt: skip


def load_npy(path: str | os.PathLike[str], name: str) -> Array:
    """Return the array of a ``.npy`` file, memory-mapped."""
    path = Path(path)
    if not path.is_file():
        raise InvalidValueError(f"{name} cannot be read: expected a .npy file, got {path}, not a file. Check the path.")
    try:
        with np.errstate(over="ignore"):  # the bytes of a shape that no file has
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except npy_errors() as error:
        raise InvalidValueError(
            f"{name} cannot be read: expected a .npy file of numbers, got {path} ({error}). Write it with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InvalidValueError(
            f"{name} cannot be read: expected a .npy file of one array, got the archive {path}. Write it with "
            "numpy.save."
        )
    return array


def _from_objects(X: Array, name: str) -> Array:
    try:
        if X.dtype.kind == "O":
            return X.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(
            f"{name} is not numeric: expected real numbers, argument must be a string or a number for dtype {X.dtype} "
            f"({error}). Convert it to float32."
        ) from error
    raise InvalidTypeError(f"{name} is not numeric: expected real numbers, got dtype {X.dtype}. Convert it to float32.")


# Largest squared norm of a row: sums over 10^8 rows stay inside float32.
MOST_SQUARE = 1e30


def float_block(X: npt.NDArray[np.number[Any]], rows: slice | IntArray, *, name: str = "X") -> npt.NDArray[np.float32]:
    """Return some rows of a matrix as finite float32, in C order.

    Parameters
    ----------
    X : ndarray of shape (n_items, dim), any real dtype
    rows : slice or ndarray of int
        A slice has a start.
    name : str
        What messages call `X`.

    Returns
    -------
    block : ndarray of shape (n_rows, dim), dtype float32
        `X` itself where nothing had to change, so do not write into it.

    Raises
    ------
    InvalidValueError
        If a value is NaN or infinite, or the squared norm of a row is above 1e30, so that sums of such squares would
        leave float32; the message names the row.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        taken = X[rows] if isinstance(rows, slice) else take_rows(X, rows)
        block = np.ascontiguousarray(taken, dtype=np.float32)
        # Finite only if every value is; NaN is not below anything.
        bad = ~(np.einsum("nd,nd->n", block, block) <= MOST_SQUARE)
    if bad.any():
        first = int(np.argmax(bad))
        row = rows.start + first if isinstance(rows, slice) else int(rows[first])
        raise InvalidValueError(
            f"{name} contains NaN, infinity, or a square too large for float32: expected finite numbers, got "
            f"{_describe(block[first])} in row {row}. Drop or repair that row."
        )
    return block


# Where values of a column differ by less than this, float32 has no digits left for their squared distances.
LEAST_SPREAD = 1e-15


def check_spread(sample: npt.NDArray[np.float32], *, name: str = "X") -> None:
    """Raise if rows differ, but by so little that their squared distances vanish in float32."""
    spread = float((sample.max(axis=0) - sample.min(axis=0)).max())
    if 0 < spread < LEAST_SPREAD:
        raise InvalidValueError(
            f"{name} varies too little: expected values that differ by {LEAST_SPREAD:g} or more, got at most "
            f"{spread:g}, whose square vanishes in float32. Multiply the embeddings by a constant."
        )


def _describe(row: npt.NDArray[np.float32]) -> str:
    bad = np.flatnonzero(~np.isfinite(row))
    column = int(bad[0]) if len(bad) else int(np.abs(row).argmax())
    return f"{row[column]} at column {column}"


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
    codes = as_integers(codes, name)
    outside = (codes < 0) | (codes >= np.asarray(codebook_sizes))
    if outside.any():
        row, level = (int(index) for index in np.argwhere(outside)[0])
        raise InvalidValueError(
            f"{name} lies outside the codebook: expected 0 to {codebook_sizes[level] - 1} at level {level}, got "
            f"{codes[row, level]} in row {row}. Encode with the same quantizer."
        )
    return np.ascontiguousarray(codes, dtype=code_dtype(max(codebook_sizes)))
