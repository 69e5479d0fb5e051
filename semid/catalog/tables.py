"""A catalogue as a table, for other tools: one row per item, with its id and its codes.

The codes of level l are in the column code_l, or of a view named semantic in semantic_code_l.
"""

import importlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from semid._optional import require
from semid.catalog.contents import Contents, as_given
from semid.catalog.item_keys import BLOCK_IDS, IntKeys
from semid.errors import FormatError, OptionalDependencyError
from semid.io.persistence import as_path, fresh_path

__all__ = ["read_codes", "read_schema", "read_table", "to_pandas", "write_table"]

ITEM_ID, CODE = "item_id", "code_"
ABOUT = b"semid"  # the entry of the file's metadata


def to_pandas(contents: Contents) -> Any:
    """Return a pandas.DataFrame; see `SemanticIds.to_pandas`."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise OptionalDependencyError(
            f"cannot import pandas: expected an installed package, got {error}. Run pip install pandas."
        ) from error
    ids = [item_id for block in contents.keys.blocks() for item_id in block]
    return pandas.DataFrame({ITEM_ID: ids} | _columns(contents))


def write_table(contents: Contents, fingerprint: str, path: str | os.PathLike[str]) -> None:
    """Write a parquet file, whole or not at all; see `SemanticIds.to_parquet`."""
    arrow, parquet = require("pyarrow", extra="data"), require("pyarrow.parquet", extra="data")
    columns = {name: arrow.array(column) for name, column in _columns(contents).items()}
    of_ids = arrow.int64() if isinstance(contents.keys, IntKeys) else arrow.string()
    about = {
        "views": list(contents.views),
        "codebook_sizes": as_given(contents.codebook_sizes),
        "generation": contents.generation,
        "fingerprint": fingerprint,
    }
    schema = arrow.schema(
        [(ITEM_ID, of_ids), *((name, column.type) for name, column in columns.items())],
        metadata={ABOUT: json.dumps(about)},
    )
    with fresh_path(path) as fresh, parquet.ParquetWriter(fresh, schema) as writer:
        for number, ids in enumerate(contents.keys.blocks()):
            rows = [column.slice(number * BLOCK_IDS, BLOCK_IDS) for column in columns.values()]
            writer.write_table(arrow.table([arrow.array(ids, of_ids), *rows], schema=schema))


def _columns(contents: Contents) -> dict[str, Any]:
    return {
        f"{stem_of(view)}{level}": column
        for view, rows in contents.codes.items()
        for level, column in enumerate(rows.T)
    }


def read_table(path: str | os.PathLike[str]) -> tuple[Any, Any, Any]:
    """Read ids, codes and codebook sizes (None if unknown) from a parquet file.

    Raises
    ------
    FormatError
        If the file is missing or is not a parquet file; if columns of ids or codes are missing, or hold nulls or other
        types; if its metadata has an entry of another kind than `write_table` writes.
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
    ids = _read_columns(path, [ITEM_ID])
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
    """Return the schema of a parquet file; a FormatError if it is not a parquet file."""
    arrow, parquet = require("pyarrow", extra="data"), require("pyarrow.parquet", extra="data")
    if not as_path(path).is_file():
        raise FormatError(f"{path} cannot be read: expected a parquet file, got no such file. Check the path.")
    try:
        schema = parquet.read_schema(path)
        list(schema.names)  # the bytes of a damaged name become a text here
        return schema
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read: expected a parquet file, got {error}. Write it again.") from error


def _about(schema: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `write_table` wrote into the metadata; an empty dict for a table of other tools."""
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
    """Return the columns of each view in the order of the levels; None if a view has no columns."""
    views = about.get("views") or views_of(schema.names)
    stems = numbered(schema.names)
    if not views or not all(stem_of(view) in stems for view in views):
        return None
    return {view: levels_of(schema.names, stem_of(view), path) for view in views}


def _codes(columns: Mapping[str | None, list[str]], path: str | os.PathLike[str]) -> Any:
    table = _read_columns(path, [name for names in columns.values() for name in names])
    codes: dict[str | None, Any] = {
        view: np.stack([_integers(table, name, path) for name in names], axis=1) for view, names in columns.items()
    }
    return as_given(codes)


def _read_columns(path: str | os.PathLike[str], columns: list[str]) -> Any:
    """Read some columns; others, such as embeddings, may be many times larger."""
    arrow, parquet = require("pyarrow", extra="data"), require("pyarrow.parquet", extra="data")
    try:
        return parquet.read_table(path, columns=columns, memory_map=True)
    except (arrow.ArrowException, OSError) as error:
        raise FormatError(f"{path} cannot be read: expected a parquet file, got {error}. Write it again.") from error


def _integers(table: Any, name: str, path: str | os.PathLike[str]) -> Any:
    column = table.column(name)
    if column.null_count or not str(column.type).startswith(("int", "uint")):
        raise FormatError(
            f"{path} has a wrong column {name!r}: expected integers without nulls, got {column.type} with "
            f"{column.null_count} nulls. Convert the column, or drop rows with nulls."
        )
    return column.to_numpy()


def stem_of(view: str | None) -> str:
    """Return the names of a view's columns without the level at the end."""
    return CODE if view is None else f"{view}_{CODE}"


def numbered(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names that end in a number, in the order of the numbers, by the rest of the name.

    Examples
    --------
    >>> numbered(["code_10", "item_id", "code_2", "level_0"])
    {'code_': ['code_2', 'code_10'], 'level_': ['level_0']}
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if match := re.fullmatch(r"(.*?)([0-9]+)", name, re.DOTALL):
            found.setdefault(match[1], []).append((int(match[2]), name))
    return {stem: [name for _, name in sorted(columns)] for stem, columns in found.items()}


def views_of(names: Iterable[str]) -> list[str | None]:
    """Return the views whose codes a table has; only None if it has codes without a view.

    Examples
    --------
    >>> views_of(["item_id", "semantic_code_0", "look_code_0"]), views_of(["code_0", "zip_code_1"]), views_of(["id"])
    (['semantic', 'look'], [None], [])
    """
    stems = numbered(names)
    if CODE in stems:
        return [None]
    return [stem.removesuffix(f"_{CODE}") for stem in stems if stem.endswith(f"_{CODE}")]


def levels_of(names: Iterable[str], stem: str, source: Any) -> list[str]:
    """Return the columns of the levels from the first to the last; a FormatError if one is missing.

    A table that other tools wrote may have its columns in any order.
    """
    found = numbered(names).get(stem, [])
    expected = [f"{stem}{level}" for level in range(max(1, len(found)))]
    if found != expected:
        raise FormatError(f"{source} has gaps: expected columns {expected}, got {found}. Number all levels.")
    return found
