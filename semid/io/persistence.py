"""Saved objects: safetensors plus config.json, written whole or not at all, never a pickle."""

import hashlib
import json
import math
import operator
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from semid._arrays import Array
from semid._version import __version__
from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.io.exchange import flush, is_working_directory, put_in_place, remove_litter, room_beside

__all__ = [
    "FORMAT_VERSION",
    "as_path",
    "check_replaceable",
    "checksum_of",
    "fresh_path",
    "read_folder",
    "read_tensors",
    "saved_class",
    "to_json",
    "write_folder",
    "write_tensors",
]

T = TypeVar("T")

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

    What was written is on the disk before the rename, and the rename before this returns: after a loss of power there
    is either the old or the new. What stands there keeps its permissions. What killed processes have left beside it is
    removed.

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
    given, target = target, Path(os.path.realpath(as_path(target)))
    if target.exists() and target.is_dir() != folder:
        expected, got = ("a folder", "a file") if folder else ("a file", "a folder")
        raise InvalidValueError(f"{given} cannot be written: expected {expected}, got {got}. Choose another name.")
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_litter(target)
    with room_beside(target) as room:
        fresh = room / target.name
        yield fresh
        flush(fresh)
        put_in_place(fresh, target, room=room)


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
    OSError
        If the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with fresh_path(path) as fresh:
        # safetensors 0.8 lets nobody but the owner read its files; others get the mode of any new file.
        fresh.touch()
        mode = stat.S_IMODE(fresh.stat().st_mode)
        try:
            ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
            save_file(ordered, fresh, dict(metadata or {}))
        except SafetensorError as error:  # such as a full disk
            raise OSError(f"{path} cannot be written: {error}") from error
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
    path = as_path(path)
    with open_file(path) as file:
        return parse_tensors(file, path, mmap=mmap)


def as_path(path: Any) -> Path:
    """Return a path given as str or path-like, or raise an InvalidTypeError or InvalidValueError."""
    try:
        found = Path(path)
    except TypeError as error:
        raise InvalidTypeError(
            f"a path has a wrong type: expected a str or Path, got {type(path).__name__}. Pass the name of the file."
        ) from error
    if "\0" in str(found):
        raise InvalidValueError(f"a path is wrong: expected no NUL in it, got {str(found)!r}. Correct it.")
    return found


def open_file(path: Path, *, folder: int | None = None) -> BinaryIO:
    """Open an ordinary file for reading, by its name in an open folder if one is given; never wait for a pipe.

    Raises
    ------
    FormatError
        If there is no file, or something else, such as a pipe.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0), dir_fd=folder)

    try:
        file = open(path.name if folder is not None else path, "rb", opener=opener)
    except OSError as error:
        raise FormatError(
            f"{path} cannot be read: expected a file, got {error.strerror or error}. Check the path."
        ) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FormatError(f"{path} cannot be read: expected an ordinary file, got a pipe or device. Check the path.")
    return file


# Bytes of a header, and of a config.json, that are read; ours have some thousands.
MOST_HEADER, MOST_CONFIG = 1 << 22, 1 << 26
# Axes of an array of NumPy.
MOST_AXES = 64


def parse_tensors(file: BinaryIO, path: Path, *, mmap: bool) -> tuple[dict[str, Array], dict[str, str]]:
    """Read an open safetensors file: everything through the one descriptor, so that a replacement does no harm."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(8)
    header_size = int.from_bytes(head, "little")
    if len(head) < 8 or header_size > min(size - 8, MOST_HEADER):
        raise _damaged(path, f"a header of {header_size} bytes in a file of {size}")
    begin, total = 8 + header_size, 0
    try:
        header = json.loads(file.read(header_size))
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise _damaged(path, "metadata that are not texts")
        arrays: dict[str, Array] = {}
        for name, entry in header.items():
            first, last = map(operator.index, entry["data_offsets"])
            dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(map(operator.index, entry["shape"]))
            if len(shape) > MOST_AXES or any(not 0 <= length <= size for length in shape):
                raise _damaged(path, f"an array {name[:40]!r} that {size} bytes cannot hold")
            total += last - first
            if (
                first < 0
                or last - first != dtype.itemsize * math.prod(shape)
                or begin + last > size
                or begin + total > size  # arrays that overlap
            ):
                raise _damaged(path, f"{size} bytes where {name[:40]!r} ends at {begin + last}")
            if mmap and last > first and (begin + first) % dtype.itemsize == 0:  # as every writer aligns them
                arrays[name] = np.memmap(file, dtype, mode="r", offset=begin + first, shape=shape)
            else:
                file.seek(begin + first)
                arrays[name] = np.frombuffer(file.read(last - first), dtype).reshape(shape).copy()
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise _damaged(path, f"an unreadable header ({type(error).__name__}: {str(error)[:200]})") from error
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
    foreign = sorted(path.name for path in folder.iterdir() if not OURS.fullmatch(path.name))
    if foreign:
        more = f" and {len(foreign) - 5} more" if len(foreign) > 5 else ""
        raise InvalidValueError(
            f"{folder} would lose files: expected {CONFIG}, {TENSORS} and {CARD} alone, got "
            f"{', '.join(foreign[:5])}{more} besides. Move them away, or choose another name."
        )


# What a saved folder holds: also arrays as saving into the working directory names them, and what a killed save leaves.
NAMED_TENSORS = re.compile(r"model(\.[0-9a-f]{8})?\.safetensors")
LITTER = r"\.(config\.json|README\.md|model\..*)\.\d+\..*"
OURS = re.compile(rf"{re.escape(CONFIG)}|{re.escape(CARD)}|{NAMED_TENSORS.pattern}|{LITTER}")


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
    check_replaceable(as_path(folder))
    plain: dict[str, Any] = json.loads(to_json(config))  # as a reader finds it
    checksum = checksum_of(plain, arrays)
    head = {"class": class_name, "format_version": FORMAT_VERSION, "semid_version": __version__}
    text, whole = card.rstrip() + "\n", head | plain | {"checksum": checksum}
    target = Path(os.path.realpath(folder))
    if not is_working_directory(target):
        with fresh_path(folder, folder=True) as fresh:
            fresh.mkdir()
            write_tensors(fresh / TENSORS, arrays)
            (fresh / CONFIG).write_text(to_json(whole, indent=2) + "\n", encoding="utf-8")
            (fresh / CARD).write_text(text, encoding="utf-8")
        return
    # A process whose directory is gone can open no relative path, so the folder stays. Its config.json names the
    # arrays: at the moment at which it is replaced, the folder is the new one.
    name = f"model.{checksum[:8]}.safetensors"
    write_tensors(target / name, arrays)
    with fresh_path(target / CONFIG) as fresh:
        fresh.write_text(to_json(whole | {"tensors": name}, indent=2) + "\n", encoding="utf-8")
    with fresh_path(target / CARD) as fresh:
        fresh.write_text(text, encoding="utf-8")
    for path in list(target.iterdir()):
        if NAMED_TENSORS.fullmatch(path.name) and path.name != name:
            path.unlink(missing_ok=True)
        elif re.fullmatch(LITTER, path.name):
            remove_litter(target / path.name[1:].rsplit(".", 2)[0])


def checksum_of(config: Any, arrays: Mapping[str, Array]) -> str:
    """Return SHA-256 of JSON values and of arrays, bit by bit, in hexadecimal: against accidents, not intent."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data if array.size else b"")  # an empty array may have no memory to read
    return digest.hexdigest()


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
    folder = as_path(folder)
    return str(_of_one_version(folder, lambda opened, seen: _read_config(folder, opened)["class"]))


def read_folder(
    folder: str | os.PathLike[str],
    *,
    class_name: str,
    mmap: bool = False,
    verify: bool = True,
    needs_checksum: bool = False,
    check: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read what `write_folder` wrote; beside a writer that replaces the folder, all of the old or all of the new.

    Parameters
    ----------
    folder : path-like
    class_name : str
    mmap : bool, default=False
        Map the arrays instead of reading them.
    verify : bool, default=True
        Compare everything with the checksum, if there is one.
    needs_checksum : bool, default=False
        Whether there must be one.
    check : callable, optional
        Takes the configuration before the checksum is compared, to say what is wrong with another version.

    Returns
    -------
    config : dict
        Without the entries that `write_folder` added.
    arrays : dict of str to ndarray

    Raises
    ------
    FormatError
        If a file is missing, damaged or changed since, or the folder holds another class or a later format.
    """
    folder = as_path(folder)

    def read(opened: int | None, seen: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Array]]:
        config = _read_config(folder, opened)
        _check_head(folder, config, class_name)
        seen |= config
        tensors = config.pop("tensors", TENSORS)
        if not isinstance(tensors, str) or not NAMED_TENSORS.fullmatch(tensors):
            raise _damaged(folder / CONFIG, f"arrays in {tensors!r}")
        with open_file(folder / tensors, folder=opened) as file:
            return config, parse_tensors(file, folder / tensors, mmap=mmap)[0]

    config, arrays = _of_one_version(folder, read)
    checksum = config.pop("checksum", None)
    plain = {key: value for key, value in config.items() if key not in _HEAD}
    if check is not None:
        check(plain)
    if verify and checksum is None and needs_checksum:
        raise FormatError(
            f"{folder} is not as it was saved: expected a checksum, got none. A file was changed or damaged: save it "
            "again, or copy the folder again."
        )
    if verify and checksum is not None and (found := checksum_of(plain, arrays)) != checksum:
        raise FormatError(
            f"{folder} is not as it was saved: expected checksum {checksum}, got {found}. A file was changed or "
            "damaged: save it again, or copy the folder again."
        )
    return plain, arrays


# A reader starts anew when a writer has replaced the folder in the middle; the next writer needs as long as the last.
MOST_ATTEMPTS = 100
_HEAD = ("class", "format_version", "semid_version")


@contextmanager
def open_folder(folder: Path) -> Iterator[int | None]:
    """Yield a descriptor of a folder, so that its files are those of one folder; None where systems have none."""
    if not hasattr(os, "O_DIRECTORY") or os.open not in os.supports_dir_fd:
        yield None
        return
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _no_folder(folder, error) from error
    try:
        yield opened
    finally:
        os.close(opened)


def _of_one_version(folder: Path, read: Callable[[int | None, dict[str, Any]], T]) -> T:
    """Return what `read` makes of an open folder; it notes the configuration that it has seen.

    A writer may put another folder here and remove the files of the open one: then it reads that other one.
    """
    for attempt in range(MOST_ATTEMPTS):
        seen: dict[str, Any] = {}
        with open_folder(folder) as opened:
            try:
                return read(opened, seen)
            except FormatError:
                if attempt == MOST_ATTEMPTS - 1 or not _is_replaced(folder, opened, seen):
                    raise
    raise AssertionError("the last attempt returns or raises")


def _is_replaced(folder: Path, opened: int | None, seen: Mapping[str, Any]) -> bool:
    """Tell whether there is another folder now, or another config.json than the one that was seen in it."""
    try:
        if opened is not None and not os.path.samestat(os.fstat(opened), folder.stat()):
            return True
        return bool(seen) and _read_config(folder).get("checksum") != seen.get("checksum")
    except OSError:
        return True
    except FormatError:
        return bool(seen)


def _check_head(folder: Path, config: Mapping[str, Any], class_name: str) -> None:
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


def _read_config(folder: Path, opened: int | None = None) -> dict[str, Any]:
    try:
        with open_file(folder / CONFIG, folder=opened) as file:
            text = file.read(MOST_CONFIG + 1)
    except FormatError as error:
        raise _no_folder(folder, error.__cause__ or error) from error
    if len(text) > MOST_CONFIG:
        raise _damaged(folder / CONFIG, f"more than {MOST_CONFIG} bytes")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder / CONFIG, f"text that is not JSON ({str(error)[:200]})") from error
    if not isinstance(config, dict) or any(key not in config for key in _HEAD):
        raise FormatError(
            f"{folder} was not saved by semid: expected {', '.join(_HEAD)} in {CONFIG}, got something else. "
            "Check the path."
        )
    return config


def _no_folder(folder: Path, error: BaseException) -> FormatError:
    return FormatError(
        f"{folder} cannot be loaded: expected a folder with {CONFIG}, got {getattr(error, 'strerror', None) or error}. "
        "Check the path."
    )


def _damaged(path: Path, got: str) -> FormatError:
    return FormatError(f"{path} is damaged: expected a complete file, got {got}. Save or copy it again.")
