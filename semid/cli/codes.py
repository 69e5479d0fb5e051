"""Codes that commands read: what ``encode`` and ``resolve`` wrote, and parquet and safetensors files of others."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from semid.cli.options import Sources
from semid.errors import FormatError, InvalidTypeError

if TYPE_CHECKING:
    from semid._arrays import IntArray

    Codes = IntArray | Mapping[str, IntArray]

__all__ = ["load_codes"]


def load_codes(path: Path, X: Sources | None = None) -> "Codes":
    """Return the codes of a file, or view -> codes where it has several tables.

    Parameters
    ----------
    path : Path
        ``.npy``; ``.npz`` with an array per view; ``.safetensors`` with a matrix of integers, or one per view; or
        ``.parquet`` with a column of lists, named as in ``items.parquet::codes`` where there are several, or else with
        a column of integers per level, numbered from 0 as `SemanticIds.to_parquet` does; other columns are left out.
    X : str or mapping of view to str, optional
        The embeddings that the codes belong to.

    Raises
    ------
    FormatError
        If the file is missing, or holds something else.
    InvalidTypeError
        If the codes have views and `X` has none, or the other way round.
    """
    codes = _load(path)
    if X is not None and isinstance(codes, Mapping) != isinstance(X, Mapping):
        expected, got = (f"views {', '.join(given)}" if isinstance(given, Mapping) else "one table without a view"
                         for given in (X, codes))  # fmt: skip
        raise InvalidTypeError(f"{path} holds codes of other embeddings: expected {expected}, got {got}. Give those.")
    return codes


def _load(path: Path) -> "Codes":
    from semid.io.batches import is_parquet

    file = Path(str(path).partition("::")[0]) if is_parquet(path) else path
    if not file.is_file():
        got = "a folder" if file.is_dir() else "none"
        raise FormatError(f"{file} cannot be read: expected a file of codes, got {got}. Check the path.")
    if is_parquet(path):
        return _parquet(path, file)
    if path.suffix in {".safetensors", ".st"}:
        return _safetensors(path)
    return _numpy(path)


def _numpy(path: Path) -> "Codes":
    import numpy as np

    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            codes = loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(
            f"{path} cannot be read: expected codes as .npy, .npz, .parquet or .safetensors, got something else. "
            "Check the path."
        ) from error
    if isinstance(codes, dict) and not codes:
        raise FormatError(f"{path} holds no codes: expected an array per view, got none. Check the path.")
    return codes


def _safetensors(path: Path) -> "Codes":
    from semid.io.persistence import read_tensors

    arrays, _ = read_tensors(path)
    tables = {name: array for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "iu"}
    if not tables:
        raise FormatError(
            f"{path} holds no codes: expected a matrix of integers, got {', '.join(arrays) or 'nothing'}. "
            "Check the path."
        )
    return next(iter(tables.values())) if len(tables) == 1 else tables


def _parquet(path: Path, file: Path) -> "Codes":
    import numpy as np

    from semid._optional import require
    from semid.catalog.columns import levels_of, numbered
    from semid.catalog.tables import read_codes, read_columns, read_schema
    from semid.io.parquet import read_parquet

    schema = read_schema(file)
    if path != file or any(hasattr(field.type, "value_type") for field in schema):
        batches = list(read_parquet(path, name=str(path)))
        return np.concatenate(batches) if batches else np.empty((0, 1), np.int64)
    # A catalogue's own table, or one with its columns: item_id is no level, and every view is a table.
    codes: Codes | None = read_codes(file)
    if codes is not None:
        return codes
    is_integer = require("pyarrow", extra="data").types.is_integer
    levels = numbered(field.name for field in schema if is_integer(field.type))
    if len(levels) != 1:
        raise FormatError(
            f"{path} holds no codes: expected a column of lists, or one of integers per level, got "
            f"{', '.join(schema.names) or 'nothing'}. Name the columns code_0, code_1 and so on."
        )
    (stem,) = levels
    columns = levels_of(levels[stem], stem, path)
    table = read_columns(file, columns)
    gaps = [name for name in columns if table[name].null_count]
    if gaps:
        raise FormatError(f"{path} has gaps: expected integers, got null in {gaps[0]!r}. Drop such rows.")
    return np.stack([table[name].to_numpy() for name in columns], axis=1)
