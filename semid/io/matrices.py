"""One matrix from outside: opened without reading, and its rows checked as they are taken."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, IntArray
from semid.errors import InvalidTypeError, InvalidValueError
from semid.io.mapped import take_rows

__all__ = ["as_array", "float_block", "load_npy", "open_matrix"]


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
        If a value is NaN or infinite, or the squared norm of a row is too large for float32; the message names the row.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        taken = X[rows] if isinstance(rows, slice) else take_rows(X, rows)
        block = np.ascontiguousarray(taken, dtype=np.float32)
        # The squared norm of a row is finite only if every value is, and distances need it to be.
        bad = ~np.isfinite(np.einsum("nd,nd->n", block, block))
    if bad.any():
        first = int(np.argmax(bad))
        row = rows.start + first if isinstance(rows, slice) else int(rows[first])
        raise InvalidValueError(
            f"{name} contains NaN, infinity, or a square too large for float32: expected finite numbers, got "
            f"{_describe(block[first])} in row {row}. Drop or repair that row."
        )
    return block


def load_npy(path: str | os.PathLike[str], name: str) -> Array:
    """Return the array of a ``.npy`` file, memory-mapped."""
    path = Path(path)
    if not path.is_file():
        raise InvalidValueError(f"{name} cannot be read: expected a .npy file, got {path}, not a file. Check the path.")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
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


def as_array(values: Any, name: str) -> Array:
    """Return what NumPy makes of an array-like, a torch tensor among them, of any shape and dtype."""
    if hasattr(values, "detach"):  # a torch tensor, known without importing torch
        return _from_tensor(values, name)
    if hasattr(values, "tocsr"):
        raise InvalidTypeError(
            f"{name} is a sparse matrix: expected a dense array, got {type(values).__name__}. Call its toarray()."
        )
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidValueError(
            f"{name} is ragged: expected rows of one length, got {type(values).__name__} ({error}). Pad or repair it."
        ) from error


def _from_tensor(tensor: Any, name: str) -> Array:
    try:
        tensor = tensor.detach().cpu()
        # Of the short floats NumPy has no other.
        if tensor.is_floating_point() and tensor.element_size() <= 2 and str(tensor.dtype) != "torch.float16":
            tensor = tensor.float()
        return np.asarray(tensor)
    except (TypeError, RuntimeError) as error:  # a NotImplementedError is a RuntimeError
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InvalidTypeError(
            f"{name} is a tensor without plain numbers: expected a dense tensor, got {tensor.layout}, {tensor.dtype} "
            f"on device {tensor.device} ({reason}). Make it one, as with to_dense() or dequantize()."
        ) from error


def _describe(row: npt.NDArray[np.float32]) -> str:
    bad = np.flatnonzero(~np.isfinite(row))
    column = int(bad[0]) if len(bad) else int(np.abs(row).argmax())
    return f"{row[column]} at column {column}"


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
