"""Embeddings in a parquet file: one column of lists, read by batches of rows."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from semid._arrays import Array
from semid._optional import require
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = ["SEPARATOR", "list_columns", "read_parquet"]

ROWS_PER_BATCH = 8192
SEPARATOR = "::"


def read_parquet(path: str | os.PathLike[str], *, name: str = "X") -> Iterator[Array]:
    """Yield the rows of a column of lists, a batch at a time.

    Parameters
    ----------
    path : path-like
        ``items.parquet``, or ``items.parquet::embedding`` where the file has several columns of lists.
    name : str
        What messages call the embeddings.

    Yields
    ------
    batch : ndarray of shape (n_rows, dim), dtype of the column

    Raises
    ------
    OptionalDependencyError
        If pyarrow is not installed.
    InvalidValueError
        If the file cannot be read, the column is missing or not named where there are several, or lists are null or of
        different lengths.
    InvalidTypeError
        If the column does not hold lists of numbers.
    """
    parquet = require("pyarrow.parquet", extra="data")
    arrow = require("pyarrow", extra="data")
    path, _, column = os.fspath(path).partition(SEPARATOR)
    if not Path(path).is_file():
        raise InvalidValueError(f"{name} cannot be read: expected a parquet file, got {path}, not a file. Check it.")
    try:
        file = parquet.ParquetFile(path)
        list(file.schema_arrow.names)  # the bytes of a damaged name become a text here
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidValueError(
            f"{name} cannot be read: expected a parquet file, got {path} ({error}). Write it again."
        ) from error
    with file:
        column = _choose_column(file.schema_arrow, column, path, name)
        first = 0
        batches = file.iter_batches(ROWS_PER_BATCH, columns=[column])
        while True:
            try:
                batch = next(batches, None)
            except (arrow.ArrowException, OSError) as error:
                raise InvalidValueError(
                    f"{name} cannot be read: expected a whole parquet file, got {path}, damaged from row {first} on "
                    f"({error}). Write it again."
                ) from error
            if batch is None:
                return
            yield _rows(batch.column(0), f"{name}, column {column!r},", first)
            first += len(batch)


def list_columns(schema: Any) -> list[str]:
    """Return the names of the columns of lists in the schema of a parquet file."""
    # A dictionary-encoded column, such as a category of pandas, has a value type and is no list.
    is_dictionary = require("pyarrow", extra="data").types.is_dictionary
    return [field.name for field in schema if hasattr(field.type, "value_type") and not is_dictionary(field.type)]


def _choose_column(schema: Any, column: str, path: str, name: str) -> str:
    lists = list_columns(schema)
    known = ", ".join(map(repr, lists)) or "a column of lists"
    if column and column in schema.names:
        if column not in lists:
            raise InvalidTypeError(
                f"{name} is not a column of lists: expected lists of numbers in {column!r}, got "
                f"{schema.field(column).type}. Name another column of {path}."
            )
        return column
    if not column and len(lists) == 1:
        return lists[0]
    raise InvalidValueError(
        f"{name} needs a column of lists: expected one of {known}, got {column or 'no name'!r}. Name it as in "
        f"'{path}{SEPARATOR}column'."
    )


def _rows(column: Any, name: str, first: int) -> Array:
    if column.null_count:
        row = first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise InvalidValueError(f"{name} has no list in row {row}: expected numbers, got null. Drop that row.")
    values = column.flatten()
    if values.null_count:
        raise InvalidValueError(f"{name} has gaps: expected numbers, got null from row {first} on. Drop such rows.")
    dim = len(values) // max(1, len(column))
    lengths = np.asarray(column.value_lengths()) if hasattr(column, "value_lengths") else np.full(len(column), dim)
    if (lengths != dim).any():
        row = int(np.argmax(lengths != lengths[0]))
        raise InvalidValueError(
            f"{name} is ragged: expected rows of one length, got {lengths[0]} and, in row {first + row}, "
            f"{lengths[row]} numbers. Pad or repair it."
        )
    try:
        return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), dim)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(
            f"{name} does not hold numbers: expected floats, got {values.type}. Convert it."
        ) from error
