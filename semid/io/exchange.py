"""Put a fresh file or folder in the place of an old one, in one step where the system can."""

import ctypes
import os
import sys
from pathlib import Path

__all__ = ["put_in_place"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def put_in_place(fresh: Path, target: Path, *, room: Path) -> None:
    """Rename `fresh` to `target`; what was there lies in `room` afterwards, or is gone if it was a file.

    A folder that is not empty cannot be renamed over. Linux can exchange two names in one step, so that at no moment
    there is nothing at `target`, even if the process is killed. Elsewhere the old folder steps aside first, and back
    if the second rename fails. The working directory stays, since a process whose directory is gone can open no
    relative path; what is in it is replaced, the old before the new.

    Parameters
    ----------
    fresh, target : Path
        On one file system.
    room : Path
        A folder on the same file system.
    """
    if not target.is_dir():
        fresh.replace(target)
    elif _is_working_directory(target):
        _refill(target, fresh, aside=room / "replaced")
    elif not _exchange(fresh, target):
        aside = room / "replaced"
        target.rename(aside)
        try:
            fresh.rename(target)
        except BaseException:
            aside.rename(target)
            raise


def _is_working_directory(folder: Path) -> bool:
    try:
        return folder.samefile(Path.cwd())
    except OSError:  # it was deleted
        return False


def _refill(folder: Path, fresh: Path, *, aside: Path) -> None:
    """Move the entries of a folder aside and those of `fresh` in; on an error, back again."""
    aside.mkdir()
    moves = [(path, aside / path.name) for path in folder.iterdir()]
    moves += [(path, folder / path.name) for path in fresh.iterdir()]
    done: list[tuple[Path, Path]] = []
    try:
        for before, after in moves:
            before.rename(after)
            done.append((before, after))
    except BaseException:
        for before, after in reversed(done):
            after.rename(before)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2  # glibc 2.28
    except (AttributeError, OSError):
        return False
    status = renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return bool(status == 0)
