"""What commands read and write: quantizers, codes, labels, and the facts that they print."""

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import semid
from semid.cli.options import Sources, one_or_several
from semid.errors import FormatError, InvalidTypeError, InvalidValueError

if TYPE_CHECKING:
    from semid._arrays import IntArray

    Codes = IntArray | Mapping[str, IntArray]

__all__ = [
    "check_codes_file",
    "check_file",
    "check_folder",
    "code_facts",
    "load_codes",
    "load_labels",
    "load_quantizer",
    "print_facts",
    "save_codes",
]

# What a saved folder may hold, by the name in its config.json.
QUANTIZERS = ("KMeans", "ProductKMeans", "ResidualKMeans", "RQVAE", "SharedSpecificKMeans", "SharedSpecificRQVAE")


def check_codes_file(out: Path, X: Sources, *, overwrite: bool) -> None:
    """Raise, before the work, unless codes of such embeddings can be written to `out`."""
    suffix, what = (".npz", "several views") if isinstance(X, Mapping) else (".npy", "one file")
    if out.suffix != suffix:
        raise typer.BadParameter(f"--out has a wrong ending: expected {suffix} for {what}, got {out}. Rename it.")
    check_file(out, overwrite=overwrite)


def check_file(out: Path, *, overwrite: bool) -> None:
    """Raise, before the work, unless a file can be written to `out`."""
    _check_free(out, overwrite=overwrite)
    if out.is_dir():
        raise InvalidValueError(f"{out} cannot be written: expected a file, got a folder. Choose another name.")


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Raise, before the work, unless an object can be saved to `out`; only a folder of semid's is replaced."""
    from semid.io.persistence import check_replaceable

    _check_free(out, overwrite=overwrite)
    check_replaceable(out)


def _check_free(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        got = "a folder" if out.is_dir() else "a file"
        raise InvalidValueError(
            f"{out} exists: expected a new name, got {got}. Choose another name, or pass --overwrite."
        )


def load_quantizer(folder: Path, X: Sources | None = None) -> Any:
    """Load the quantizer in a folder, whichever it is, and check that it takes embeddings such as `X`."""
    from semid.io.persistence import saved_class

    name = saved_class(folder)
    if name not in QUANTIZERS:
        raise FormatError(
            f"{folder} holds no quantizer: expected one of {', '.join(QUANTIZERS)}, got {name}. Check the path."
        )
    quantizer = getattr(semid, name).from_pretrained(folder)
    if X is not None and hasattr(quantizer, "views") != isinstance(X, Mapping):
        expected = one_or_several(dict.fromkeys(quantizer.views, "")) if hasattr(quantizer, "views") else "one file"
        raise InvalidTypeError(
            f"{folder} needs other embeddings: expected {expected}, got {one_or_several(X)}. Pass those."
        )
    return quantizer


def load_codes(path: Path, X: Sources | None = None) -> "Codes":
    """Return the codes in a file, or view -> codes if it has several tables.

    Parameters
    ----------
    path : Path
        ``.npy``; ``.npz`` with an array per view; ``.safetensors`` with a matrix of integers, or one per view; or
        ``.parquet`` with a column of lists, named as in ``items.parquet::codes`` if there are several, or else with
        a column of integers per level, numbered from 0 as `SemanticIds.to_parquet` does. Other columns are ignored.
    X : str or mapping of view to str, optional
        The embeddings that the codes belong to.

    Raises
    ------
    FormatError
        If the file is missing, or holds something else.
    InvalidTypeError
        If the codes have views and `X` has none, or the other way round.
    """
    codes = _read_codes(path)
    if X is not None and isinstance(codes, Mapping) != isinstance(X, Mapping):
        expected, got = (f"views {', '.join(given)}" if isinstance(given, Mapping) else "one table without views"
                         for given in (X, codes))  # fmt: skip
        raise InvalidTypeError(
            f"{path} does not match the embeddings: expected {expected}, got {got}. Pass the codes of these embeddings."
        )
    return codes


def _read_codes(path: Path) -> "Codes":
    from semid.io.batches import is_parquet

    file = Path(str(path).partition("::")[0]) if is_parquet(path) else path
    if not file.is_file():
        got = "a folder" if file.is_dir() else "no such file"
        raise FormatError(f"{file} cannot be read: expected a file of codes, got {got}. Check the path.")
    if is_parquet(path):
        return _read_parquet(path, file)
    if path.suffix in {".safetensors", ".st"}:
        return _read_safetensors(path)
    return _read_numpy(path)


def _read_numpy(path: Path) -> "Codes":
    import numpy as np

    from semid.io.matrices import npy_errors

    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            _check_sizes(loaded.zip, path)
            codes = dict(loaded)
            if not all(isinstance(table, np.ndarray) for table in codes.values()):
                raise ValueError("other files than arrays in the archive")
    except FormatError:
        raise
    except npy_errors() as error:
        raise FormatError(
            f"{path} cannot be read: expected codes as .npy, .npz, .parquet or .safetensors, got something else. "
            "Check the path."
        ) from error
    if not codes:
        raise FormatError(f"{path} holds no codes: expected an array per view, got none. Check the path.")
    return codes


# Codes of real items are not so regular: deflate makes a two-hundredth of an array only where nearly all is equal.
MOST_COMPRESSION, SMALL_MEMBER = 200, 1 << 26


def _check_sizes(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise if an archive would fill the memory with very little."""
    for member in archive.infolist():
        if member.file_size > max(SMALL_MEMBER, MOST_COMPRESSION * member.compress_size):
            raise FormatError(
                f"{path} is not read: expected codes, got {member.file_size:,} bytes of {member.filename} packed into "
                f"{member.compress_size:,}. Write it with numpy.savez."
            )


def _read_safetensors(path: Path) -> "Codes":
    from semid.io.persistence import read_tensors

    arrays, _ = read_tensors(path)
    tables = {name: array for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "iu"}
    if not tables:
        raise FormatError(
            f"{path} holds no codes: expected a matrix of integers, got {', '.join(arrays) or 'nothing'}. "
            "Check the path."
        )
    return next(iter(tables.values())) if len(tables) == 1 else tables


def _read_parquet(path: Path, file: Path) -> "Codes":
    import numpy as np

    from semid.catalog.tables import read_codes, read_schema
    from semid.io.parquet import list_columns, read_parquet

    if path == file and not list_columns(read_schema(file)):
        return read_codes(file)  # type: ignore[no-any-return]
    batches = list(read_parquet(path, name=str(path)))
    return np.concatenate(batches) if batches else np.empty((0, 1), np.int64)


def save_codes(codes: "Codes", out: Path) -> None:
    """Write codes whole or not at all."""
    import numpy as np

    from semid.io.persistence import fresh_path

    try:
        with fresh_path(out) as fresh:
            if not isinstance(codes, Mapping):
                np.save(fresh, codes)
                return
            # numpy.savez takes the names as keyword arguments: a view could not be called "file".
            with zipfile.ZipFile(fresh, "w") as archive:
                for view, table in codes.items():
                    with archive.open(f"{view}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.asarray(table), allow_pickle=False)
    except OSError as error:  # of a full disk, NumPy says how many numbers it wrote
        raise OSError(f"{out} cannot be written: {error}. Is there enough space on the disk?") from error


def code_facts(codes: "Codes", out: Path) -> dict[str, Any]:
    """Return what to print about codes that were written."""
    tables = list(codes.values()) if isinstance(codes, Mapping) else [codes]
    facts: dict[str, Any] = {"out": str(out), "n_items": len(tables[0]), "n_levels": tables[0].shape[1]}
    return facts | ({"views": list(codes)} if isinstance(codes, Mapping) else {})


def load_labels(path: Path) -> list[str]:
    """Return the lines of a text file, less a byte order mark. Only a line feed or a carriage return ends a line."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [line.removesuffix("\n") for line in file]
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{path} cannot be read: expected one label per line in UTF-8, got other bytes ({error}). Convert it."
        ) from error


def print_facts(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print facts as JSON, or a text for people."""
    typer.echo(json.dumps(_finite(facts), allow_nan=False) if as_json else text)


def _finite(fact: Any) -> Any:
    """Return a fact with None in place of numbers that JSON cannot write: NaN and infinities."""
    if isinstance(fact, dict):
        return {name: _finite(value) for name, value in fact.items()}
    if isinstance(fact, list | tuple):
        return [_finite(value) for value in fact]
    return None if isinstance(fact, float) and not math.isfinite(fact) else fact
