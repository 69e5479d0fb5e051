"""Saved objects: safetensors plus config.json, written whole or not at all, never a pickle."""

import json
import math
import operator
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from semid._arrays import Array
from semid._version import __version__
from semid.errors import FormatError, InvalidValueError
from semid.io.exchange import put_in_place

__all__ = [
    "FORMAT_VERSION",
    "check_replaceable",
    "fresh_path",
    "read_folder",
    "read_tensors",
    "saved_class",
    "to_json",
    "write_folder",
    "write_tensors",
]

FORMAT_VERSION = 1
CONFIG, TENSORS, CARD = "config.json", "model.safetensors", "README.md"

# The names of the safetensors format; NumPy has no bfloat16, and we store none.
DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip


@contextmanager
def fresh_path(target: str | os.PathLike[str], *, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `target` and rename it to `target` when the block ends without an error.

    Parameters
    ----------
    target : path-like
        What is written or replaced; of a link, what it points to.
    folder : bool, default=False
        Whether the block makes a folder or a file.

    Raises
    ------
    InvalidValueError
        If there is a folder where a file is to be written, or a file in place of a folder.
    """
    # Links are followed, so that they stay; and an absolute path has a name where "." has none.
    given, target = target, Path(os.path.realpath(target))
    if target.exists() and target.is_dir() != folder:
        expected, got = ("a folder", "a file") if folder else ("a file", "a folder")
        raise InvalidValueError(f"{given} cannot be written: expected {expected}, got {got}. Choose another name.")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, because a rename is atomic only within one file system.
    room = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield room / target.name
        put_in_place(room / target.name, target, room=room)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def write_tensors(
    path: str | os.PathLike[str], arrays: Mapping[str, Array], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays to one safetensors file, whole or not at all.

    Parameters
    ----------
    path : path-like
        The file; replaced when it exists.
    arrays : mapping of str to ndarray
    metadata : mapping of str to str, optional
        Kept in the file's header.

    Raises
    ------
    InvalidValueError
        If `path` is a folder.
    """
    from safetensors.numpy import save_file

    with fresh_path(path) as fresh:
        # safetensors 0.8 lets nobody but the owner read its files; others get the mode of any new file.
        fresh.touch()
        mode = stat.S_IMODE(fresh.stat().st_mode)
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, fresh, dict(metadata or {}))
        fresh.chmod(mode)


def read_tensors(path: str | os.PathLike[str], *, mmap: bool = False) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Parameters
    ----------
    path : path-like
    mmap : bool, default=False
        Map the arrays read-only instead of reading them; processes that map the same file share its pages.

    Returns
    -------
    arrays : dict of str to ndarray
    metadata : dict of str to str

    Raises
    ------
    FormatError
        If the file is missing, truncated, or not a safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise FormatError(f"{path} cannot be read: expected a safetensors file, got no file. Check the path.")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        header_size = int.from_bytes(head, "little")
        if len(head) < 8 or header_size > size - 8:
            raise _damaged(path, f"a header of {header_size} bytes in a file of {size}")
        try:
            header = json.loads(file.read(header_size))
            metadata = header.pop("__metadata__", {})
            if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
                raise _damaged(path, "metadata that are not texts")
            begin = 8 + header_size
            arrays: dict[str, Array] = {}
            for name, entry in header.items():
                first, last = map(operator.index, entry["data_offsets"])
                dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(map(operator.index, entry["shape"]))
                if (
                    first < 0
                    or min(shape, default=0) < 0
                    or begin + last > size
                    or last - first != dtype.itemsize * math.prod(shape)
                ):
                    raise _damaged(path, f"{size} bytes where {name!r} ends at {begin + last}")
                if mmap and last > first and (begin + first) % dtype.itemsize == 0:  # as every writer aligns them
                    arrays[name] = np.memmap(path, dtype, mode="r", offset=begin + first, shape=shape)
                else:
                    file.seek(begin + first)
                    arrays[name] = np.frombuffer(file.read(last - first), dtype).reshape(shape).copy()
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            if isinstance(error, FormatError):
                raise
            raise _damaged(path, f"an unreadable header ({type(error).__name__}: {error})") from error
    return arrays, metadata


def check_replaceable(folder: Path) -> None:
    """Raise unless nothing is lost when a folder is replaced: it is new, empty, or as `write_folder` left it.

    Raises
    ------
    InvalidValueError
        If it is something else, or holds other files besides.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        _read_config(folder)
    except FormatError as error:
        raise InvalidValueError(
            f"{folder} would be overwritten: expected a new, an empty or a saved semid folder, got something else. "
            "Choose another name."
        ) from error
    foreign = sorted({path.name for path in folder.iterdir()} - {CONFIG, TENSORS, CARD})
    if foreign:
        more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        raise InvalidValueError(
            f"{folder} would lose files: expected {CONFIG}, {TENSORS} and {CARD} alone, got "
            f"{', '.join(foreign[:5])}{more} besides. Move them away, or choose another name."
        )


def write_folder(
    folder: str | os.PathLike[str],
    *,
    class_name: str,
    config: Mapping[str, Any],
    arrays: Mapping[str, Array],
    card: str,
) -> None:
    """Write a saved object as a folder, whole or not at all.

    Parameters
    ----------
    folder : path-like
        Replaced when it holds a saved object and nothing else; any other folder that is not empty is left alone.
    class_name : str
        What `read_folder` asks for.
    config : mapping
        The constructor's arguments: what `to_json` takes.
    arrays : mapping of str to ndarray
    card : str
        Text of README.md, for people.

    Raises
    ------
    InvalidValueError
        If `folder` exists and is something else, or holds other files besides.
    """
    check_replaceable(Path(folder))
    head = {"class": class_name, "format_version": FORMAT_VERSION, "semid_version": __version__}
    with fresh_path(folder, folder=True) as fresh:
        fresh.mkdir()
        write_tensors(fresh / TENSORS, arrays)
        (fresh / CONFIG).write_text(to_json(head | dict(config), indent=2) + "\n", encoding="utf-8")
        (fresh / CARD).write_text(card.rstrip() + "\n", encoding="utf-8")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return a value as JSON; a number of NumPy is a number, an array a list, any mapping an object.

    Raises
    ------
    TypeError
        If it holds something else that JSON does not know.
    """
    return json.dumps(value, indent=indent, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def saved_class(folder: str | os.PathLike[str]) -> str:
    """Return the name of the class that was saved in a folder; a FormatError if there is none."""
    return str(_read_config(Path(folder))["class"])


def read_folder(
    folder: str | os.PathLike[str], *, class_name: str, mmap: bool = False
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read what `write_folder` wrote.

    Returns
    -------
    config : dict
        Without the entries that `write_folder` added.
    arrays : dict of str to ndarray

    Raises
    ------
    FormatError
        If a file is missing or damaged, or the folder holds another class or a later format.
    """
    folder = Path(folder)
    config = _read_config(folder)
    if config["format_version"] != FORMAT_VERSION:
        raise FormatError(
            f"{folder} has an unknown format: expected version {FORMAT_VERSION}, got {config['format_version']}. "
            "Load it with the semid version named in its config.json."
        )
    if config["class"] != class_name:
        raise FormatError(
            f"{folder} holds another object: expected {class_name}, got {config['class']}. "
            f"Load it with {config['class']}.from_pretrained."
        )
    arrays, _ = read_tensors(folder / TENSORS, mmap=mmap)
    return {key: value for key, value in config.items() if key not in _HEAD}, arrays


_HEAD = ("class", "format_version", "semid_version")


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        raise FormatError(
            f"{folder} cannot be loaded: expected a folder with {CONFIG}, got {error.strerror or error}. "
            "Check the path."
        ) from error
    except ValueError as error:
        raise _damaged(folder / CONFIG, f"text that is not JSON ({error})") from error
    if not isinstance(config, dict) or any(key not in config for key in _HEAD):
        raise FormatError(
            f"{folder} was not saved by semid: expected {', '.join(_HEAD)} in {CONFIG}, got something else. "
            "Check the path."
        )
    return config


def _damaged(path: Path, got: str) -> FormatError:
    return FormatError(f"{path} is damaged: expected a complete file, got {got}. Save or copy it again.")
