"""A catalogue as a table, for other tools: one row per item, with its id and its codes."""

import importlib
import itertools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semid._optional import require
from semid.errors import FormatError, OptionalDependencyError
from semid.io.persistence import fresh_path

if TYPE_CHECKING:
    from semid.catalog.semantic_ids import SemanticIds

__all__ = ["read_table", "to_pandas", "write_table"]

ITEM_ID, CODE = "item_id", "code_"
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
        If the file is missing or no parquet file, has no column of ids or of codes, or one with nulls or other types.
    """
    arrow, parquet = require("pyarrow", extra="data"), require("pyarrow.parquet", extra="data")
    if not Path(path).is_file():
        raise FormatError(f"{path} cannot be read: expected a parquet file, got none. Check the path.")
    try:
        table = parquet.read_table(path, memory_map=True)
    except (arrow.ArrowException, OSError) as error:
        raise FormatError(f"{path} cannot be read: expected a parquet file, got {error}. Write it again.") from error
    about = json.loads((table.schema.metadata or {}).get(ABOUT, b"{}"))
    views = about.get("views") or [None]
    names = {view: [name for name in table.column_names if _is_code(name, view)] for view in views}
    if ITEM_ID not in table.column_names or not all(names.values()):
        raise FormatError(
            f"{path} has other columns: expected {ITEM_ID}, {_name(views[0], 0)} and so on, got {table.column_names}. "
            "Rename the columns."
        )
    codes = {}
    for view in views:
        # A table that other tools wrote may have its columns in any order.
        ordered = [_name(view, level) for level in range(len(names[view]))]
        if set(ordered) != set(names[view]):
            raise FormatError(f"{path} has gaps: expected columns {ordered}, got {names[view]}. Number all levels.")
        codes[view] = np.stack([_integers(table, name, path) for name in ordered], axis=1)
    ids = table.column(ITEM_ID)
    item_ids = _integers(table, ITEM_ID, path) if arrow.types.is_integer(ids.type) else ids.to_pylist()
    return item_ids, codes if about.get("views") else codes[None], about.get("codebook_sizes")


def _columns(sids: "SemanticIds") -> dict[str, Any]:
    return {
        _name(view, level): column
        for view in sids.views or (None,)
        for level, column in enumerate(sids.taken(view, retired=False).T)
    }


def _name(view: str | None, level: int) -> str:
    return f"{CODE}{level}" if view is None else f"{view}_{CODE}{level}"


def _is_code(name: str, view: str | None) -> bool:
    start = _name(view, 0)[:-1]
    return name.startswith(start) and name[len(start) :].isdecimal()


def _integers(table: Any, name: str, path: str | os.PathLike[str]) -> Any:
    column = table.column(name)
    if column.null_count or not str(column.type).startswith(("int", "uint")):
        raise FormatError(
            f"{path} has no integers in column {name!r}: expected integers without nulls, got {column.type} with "
            f"{column.null_count} nulls. Repair the column."
        )
    return column.to_numpy()
