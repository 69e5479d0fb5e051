"""Embeddings from outside: a matrix, a file or a stream of batches, read whole, block by block, or as a sample."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import Int64Array, Matrix
from semid.errors import InvalidValueError
from semid.io.matrices import drop_pages, float_block, open_matrix
from semid.io.parquet import SEPARATOR, read_parquet

__all__ = [
    "check_embeddings",
    "is_parquet",
    "is_stream",
    "iter_batches",
    "iter_blocks",
    "open_embeddings",
    "reservoir_sample",
]

BLOCK_ROWS = 8192


def check_embeddings(X: Any, *, name: str = "X", dim: int | None = None, min_items: int = 1) -> Matrix:
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


def iter_blocks(X: Any, *, name: str = "X", dim: int | None = None) -> Iterator[Matrix]:
    """Yield embeddings piece by piece, as `iter_batches` does, whether they are a stream or a matrix.

    Parameters
    ----------
    X : stream as of `is_stream`, array-like of shape (n_items, dim), or path of a ``.npy`` file
        A memory-mapped file leaves memory again.
    name : str
    dim : int, optional
        Number of columns that is required.

    Raises
    ------
    InvalidValueError
        If a shape is wrong, a value is not finite, or there is no row at all.
    """
    if is_stream(X):
        for batch in iter_batches(X, name=name):
            open_matrix(batch, name=name, dim=dim)
            yield batch
        return
    matrix = open_matrix(X, name=name, dim=dim)
    for first in range(0, len(matrix), BLOCK_ROWS):
        # A copy, since pages that are dropped would be read again when the block is used.
        yield np.array(float_block(matrix, slice(first, first + BLOCK_ROWS), name=name))
        drop_pages(matrix)


def iter_batches(X: Any, *, name: str = "X") -> Iterator[Matrix]:
    """Yield the batches of a stream that have rows, each as a finite float32 matrix in C order.

    Parameters
    ----------
    X : path of a ``.parquet`` file, or iterable of array-like of shape (n_rows, dim)
    name : str
        What messages call `X`.

    Raises
    ------
    InvalidValueError
        If batches differ in their dim, a value is not finite, or there is no row at all; the message names the batch.
    """
    dim, n_items = None, 0
    for number, batch in enumerate(read_parquet(X, name=name) if is_parquet(X) else X):
        label = f"{name}, batch {number},"
        matrix = open_matrix(batch, name=label, dim=dim, min_items=0)
        if len(matrix):
            dim, n_items = matrix.shape[1], n_items + len(matrix)
            yield float_block(matrix, slice(0, None), name=label)
    if not n_items:
        raise InvalidValueError(
            f"{name} has too few items: expected at least 1, got n_samples=0 in all batches. An iterator can be read "
            "once; give a list, or an object that starts again."
        )


def is_stream(X: Any) -> bool:
    """Return whether embeddings come in batches: a parquet file, or an iterable of matrices.

    What has a length and a shape, or converts itself to an array, is no stream; a list or tuple is one if its first
    entry is a matrix.
    """
    if is_parquet(X):
        return True
    if isinstance(X, str | bytes | Mapping) or hasattr(X, "__array__") or hasattr(X, "shape"):
        return False
    if isinstance(X, Sequence):
        return bool(len(X)) and len(getattr(X[0], "shape", ())) == 2
    return hasattr(X, "__iter__")


def is_parquet(X: Any) -> bool:
    """Return whether `X` is a path that ends in ``.parquet``, perhaps followed by ``::`` and a column."""
    return isinstance(X, str | os.PathLike) and os.fspath(X).split(SEPARATOR)[0].endswith(".parquet")


def reservoir_sample(batches: Iterator[Matrix], size: int, rng: np.random.Generator) -> tuple[Matrix, int]:
    """Draw rows of a stream without replacement, in one pass and in the memory of the sample.

    Each row that comes after the first `size` takes the place of a random one with probability ``size / rows so far``
    (Vitter 1985, algorithm R).

    Parameters
    ----------
    batches : iterator of ndarray of shape (n_rows, dim), dtype float32
    size : int
    rng : numpy.random.Generator

    Returns
    -------
    sample : ndarray of shape (min(size, n_items), dim), dtype float32
        In the order of the stream, so that a stream shorter than `size` comes back as it is.
    n_items : int
        Rows of the stream.
    """
    n_items = 0
    kept: list[Matrix] = []
    numbers: list[Int64Array] = []
    sample, origin = np.empty((0, 0), np.float32), np.empty(0, np.int64)
    for batch in batches:
        fill = max(0, min(size - n_items, len(batch)))
        if fill:
            kept.append(np.array(batch[:fill]))
            numbers.append(np.arange(n_items, n_items + fill))
        if fill < len(batch):
            if kept:
                sample, origin = np.concatenate(kept), np.concatenate(numbers)
                kept, numbers = [], []
            number = np.arange(n_items + fill, n_items + len(batch))
            place = rng.integers(0, number + 1)
            # Of several rows that draw one place the last stays, as if they came one by one.
            last = {int(p): row for row, p in enumerate(place.tolist()) if p < size}
            places, rows = np.array(list(last), np.int64), np.array(list(last.values()), np.int64)
            sample[places], origin[places] = batch[fill + rows], number[rows]
        n_items += len(batch)
    if kept:
        sample, origin = np.concatenate(kept), np.concatenate(numbers)
    order = np.argsort(origin)
    return (sample if (np.diff(origin) > 0).all() else sample[order]), n_items
