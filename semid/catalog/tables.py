"""A catalogue as a table, for other tools: one row per item, with its id and its codes."""

import importlib
import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semid._optional import require
from semid.catalog.columns import levels_of, numbered, stem_of, views_of
from semid.errors import FormatError, OptionalDependencyError
from semid.io.persistence import fresh_path

if TYPE_CHECKING:
    from semid.catalog.semantic_ids import SemanticIds

__all__ = ["read_codes", "read_columns", "read_schema", "read_table", "to_pandas", "write_table"]

ITEM_ID = "item_id"
# Ids that are Python objects at one time.
BLOCK_ROWS = 65_536
ABOUT = b"semid"  # the entry of the file's metadata


def to_pandas(sids: "SemanticIds") -> Any:
    """Return a pandas.DataFrame; see `SemanticIds.to_pandas`."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise OptionalDependencyError(
            f"cannot import pandas: expected an installed package, got {error}. Run pip install pandas."
        ) from error
    return pandas.DataFrame({ITEM_ID: list(sids)} | _columns(sids))


def write_table(sids: "SemanticIds", path: str | os.PathLike[str]) -> None:
    """Write a parquet file, whole or not at all; see `SemanticIds.to_parquet`."""
    arrow, parquet = require("pyarrow", extra="data"), require("pyarrow.parquet", extra="data")
    columns = {name: arrow.array(column) for name, column in _columns(sids).items()}
    of_ids = arrow.int64() if isinstance(next(iter(sids)), int) else arrow.string()
    about = {
        "views": list(sids.views),
        "codebook_sizes": sids.codebook_sizes,
        "generation": sids.generation,
        "fingerprint": sids.fingerprint,
    }
    schema = arrow.schema(
        [(ITEM_ID, of_ids), *((name, column.type) for name, column in columns.items())],
        metadata={ABOUT: json.dumps(about)},
    )
    ids = iter(sids)
    with fresh_path(path) as fresh, parquet.ParquetWriter(fresh, schema) as writer:
        for first in range(0, len(sids), BLOCK_ROWS):
            block = arrow.array(itertools.islice(ids, BLOCK_ROWS), of_ids)
            rows = [column.slice(first, BLOCK_ROWS) for column in columns.values()]
            writer.write_table(arrow.table([block, *rows], schema=schema))


def read_table(path: str | os.PathLike[str]) -> tuple[Any, Any, Any]:
    """Read ids, codes and codebook sizes (None if unknown) from a parquet file.

    Raises
    ------
    FormatError
        If the file is missing or no parquet file, has no column of ids or of codes, one with nulls or other types, or
        says in its metadata what `write_table` does not.
    """
    schema = read_schema(path)
    about = _about(schema, path)
    columns = _code_columns(schema, about, path)
    if ITEM_ID not in schema.names or not columns:
        wanted = f"{stem_of(next(iter(about.get('views') or [None])))}0"
        raise FormatError(
            f"{path} has other columns: expected {ITEM_ID}, {wanted} and so on, got {schema.names}. Rename the columns."
        )
    arrow = require("pyarrow", extra="data")
    of_ids = schema.field(ITEM_ID).type
    ids = read_columns(path, [ITEM_ID])
    item_ids = _integers(ids, ITEM_ID, path) if arrow.types.is_integer(of_ids) else ids.column(ITEM_ID).to_pylist()
    return item_ids, _codes(columns, path), about.get("codebook_sizes")


def read_codes(path: str | os.PathLike[str]) -> Any:
    """Read the codes alone, with or without ids: an array, or one per view.

    The columns are those of `write_table`, or else the only columns of integers that are numbered: level_0, level_1, ..

    Raises
    ------
    FormatError
        If no columns of codes are found, a level is missing, or for the reasons of `read_table`.
    """
    schema = read_schema(path)
    columns = _code_columns(schema, _about(schema, path), path)
    if not columns:
        is_integer = require("pyarrow", extra="data").types.is_integer
        levels = numbered(field.name for field in schema if is_integer(field.type))
        if len(levels) != 1:
            raise FormatError(
                f"{path} holds no codes: expected a column of lists, or one of integers per level, got "
                f"{', '.join(schema.names) or 'nothing'}. Name the columns code_0, code_1 and so on."
            )
        (stem,) = levels
        columns = {None: levels_of(levels[stem], stem, path)}
    return _codes(columns, path)


def read_schema(path: str | os.PathLike[str]) -> Any:
    """Return the schema of a parquet file; a FormatError if it is none."""
    arrow, parquet = require("pyarrow", extra="data"), require("pyarrow.parquet", extra="data")
    if not Path(path).is_file():
        raise FormatError(f"{path} cannot be read: expected a parquet file, got none. Check the path.")
    try:
        return parquet.read_schema(path)
    except (arrow.ArrowException, OSError) as error:
        raise FormatError(f"{path} cannot be read: expected a parquet file, got {error}. Write it again.") from error


def _about(schema: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `write_table` noted beside the columns; nothing of a table of other tools."""
    noted = (schema.metadata or {}).get(ABOUT, b"{}")
    try:
        about = json.loads(noted)
        views, sizes = about.get("views", []), about.get("codebook_sizes")
        known = all(isinstance(view, str) for view in views)
        if isinstance(sizes, Mapping):
            known &= set(sizes) == set(views)
        each = [] if sizes is None else list(sizes.values()) if isinstance(sizes, Mapping) else [sizes]
        known &= all(isinstance(of_view, list) and all(type(size) is int for size in of_view) for of_view in each)
    except (ValueError, TypeError, AttributeError, RecursionError):
        known = False
    if not known:
        raise FormatError(
            f"{path} has a foreign entry {ABOUT.decode()!r} in its metadata: expected views and codebook sizes, got "
            f"{noted[:80]!r}. Write the table without it, or with SemanticIds.to_parquet."
        )
    return dict(about)


def _code_columns(
    schema: Any, about: Mapping[str, Any], path: str | os.PathLike[str]
) -> dict[str | None, list[str]] | None:
    """Return the columns of each view in order of their levels; None where a view has none."""
    views = about.get("views") or views_of(schema.names)
    stems = numbered(schema.names)
    if not views or not all(stem_of(view) in stems for view in views):
        return None
    return {view: levels_of(schema.names, stem_of(view), path) for view in views}


def _codes(columns: Mapping[str | None, list[str]], path: str | os.PathLike[str]) -> Any:
    table = read_columns(path, [name for names in columns.values() for name in names])
    codes = {
        view: np.stack([_integers(table, name, path) for name in names], axis=1) for view, names in columns.items()
    }
    return codes.get(None, codes)


def read_columns(path: str | os.PathLike[str], columns: list[str]) -> Any:
    """Read some columns; others, such as embeddings, may be many times larger."""
    arrow, parquet = require("pyarrow", extra="data"), require("pyarrow.parquet", extra="data")
    try:
        return parquet.read_table(path, columns=columns, memory_map=True)
    except (arrow.ArrowException, OSError) as error:
        raise FormatError(f"{path} cannot be read: expected a parquet file, got {error}. Write it again.") from error


def _columns(sids: "SemanticIds") -> dict[str, Any]:
    return {
        f"{stem_of(view)}{level}": column
        for view in sids.views or (None,)
        for level, column in enumerate(sids.taken(view, retired=False).T)
    }


def _integers(table: Any, name: str, path: str | os.PathLike[str]) -> Any:
    column = table.column(name)
    if column.null_count or not str(column.type).startswith(("int", "uint")):
        raise FormatError(
            f"{path} has a wrong column {name!r}: expected integers without nulls, got {column.type} with "
            f"{column.null_count} nulls. Convert the column, or drop rows with nulls."
        )
    return column.to_numpy()
