"""Put a fresh file or folder in the place of an old one: in one step where the system can, and on the disk."""

import ctypes
import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["flush", "is_working_directory", "put_in_place", "remove_litter", "room_beside"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# Writers that meet at one name: each goes on as soon as another one is through.
MOST_ATTEMPTS = 1000


@contextmanager
def room_beside(target: Path) -> Iterator[Path]:
    """Yield a new folder beside a target, on its file system, and remove it with what is left in it.

    Its name has the number of this process, which holds a lock on it: by both, others see that it is in use.
    """
    room = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", dir=target.parent))
    opened = None
    try:
        if fcntl is not None:
            opened = os.open(room, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)
        if opened is not None:
            os.close(opened)


def remove_litter(target: Path) -> None:
    """Remove the rooms beside a target that killed processes have left."""
    if fcntl is None:
        return
    stem = f".{target.name}."
    for room in target.parent.glob(f"{_escape(stem)}*"):
        number = room.name.removeprefix(stem).partition(".")[0]
        if not number.isdecimal() or _is_alive(int(number)):
            continue
        with suppress(OSError):
            opened = os.open(room, os.O_RDONLY)
            try:
                # The number may be that of a process elsewhere, in another container say; its lock is seen from here.
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(room, ignore_errors=True)
            finally:
                os.close(opened)


def _escape(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def flush(path: Path) -> None:
    """Wait until a file, or a folder with its files, is on the disk."""
    if path.is_dir():
        for child in path.iterdir():
            flush(child)
    elif not path.exists():
        return
    with suppress(PermissionError):  # Windows opens no folder
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def put_in_place(fresh: Path, target: Path, *, room: Path) -> None:
    """Rename `fresh` to `target`; what was there lies in `room` afterwards, or is gone if it was a file.

    A folder that is not empty cannot be renamed over. Linux can exchange two names in one step, so that at no moment
    there is nothing at `target`, even if the process is killed. Elsewhere the old folder steps aside first, and back
    if the second rename fails. Permissions stay those of what was there.

    Parameters
    ----------
    fresh, target : Path
        On one file system.
    room : Path
        A folder on the same file system.
    """
    mode = _keep_modes(fresh, target)
    for attempt in range(MOST_ATTEMPTS):
        try:
            _replace(fresh, target, aside=room / "replaced")
            break
        except OSError as error:
            # Another writer has made or removed the target in between.
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT} or attempt == MOST_ATTEMPTS - 1:
                raise
            if not fresh.exists() or not target.parent.exists():
                raise
    if mode is not None:
        target.chmod(mode)
    flush_name(target)


def _replace(fresh: Path, target: Path, *, aside: Path) -> None:
    if not fresh.is_dir() or not target.is_dir():
        fresh.replace(target)
    elif not _exchange(fresh, target):
        target.rename(aside)
        try:
            fresh.rename(target)
        except BaseException:
            aside.rename(target)
            raise


def flush_name(target: Path) -> None:
    """Wait until a rename is on the disk."""
    with suppress(PermissionError):
        opened = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _keep_modes(fresh: Path, target: Path) -> int | None:
    """Give what is fresh the permissions of what it replaces; return those of a folder, which it gets at last."""
    if not target.exists():
        return None
    mode = stat.S_IMODE(target.stat().st_mode)
    if not fresh.is_dir():
        fresh.chmod(mode)
        return None
    for child in fresh.iterdir():
        old = target / child.name
        if old.exists():
            child.chmod(stat.S_IMODE(old.stat().st_mode))
    fresh.chmod(mode | stat.S_IRWXU)  # a folder that its owner may not change cannot be moved
    return mode


def is_working_directory(folder: Path) -> bool:
    """Tell whether a folder is this process's own."""
    try:
        return folder.samefile(Path.cwd())
    except OSError:  # it was deleted
        return False


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
