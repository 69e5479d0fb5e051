"""A folder takes the place of another one, whole or not at all."""

import os
import stat
import subprocess
import sys
import textwrap
import time

import pytest

from semid.errors import InvalidValueError
from semid.io import exchange
from semid.io.exchange import put_in_place
from semid.io.persistence import fresh_path


def folder(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


@pytest.mark.parametrize("in_one_step", [True, False])
def test_the_new_one_is_in_place(tmp_path, monkeypatch, in_one_step):
    if not in_one_step:
        monkeypatch.setattr(exchange, "_exchange", lambda one, other: False)
    new, old, room = folder(tmp_path / "new", "new"), folder(tmp_path / "old", "old"), tmp_path / "room"
    room.mkdir()
    put_in_place(new, old, room=room)
    assert (old / "file").read_text() == "new"
    put_in_place(folder(tmp_path / "newer", "newer"), tmp_path / "none", room=room)
    assert (tmp_path / "none" / "file").read_text() == "newer"


def test_names_are_exchanged_on_linux(tmp_path):
    if not sys.platform.startswith("linux"):
        pytest.skip("expected Linux, whose renameat2 exchanges names")
    one, other = folder(tmp_path / "one", "1"), folder(tmp_path / "other", "2")
    assert exchange._exchange(one, other)
    assert (one / "file").read_text() == "2" and (other / "file").read_text() == "1"
    assert not exchange._exchange(one, tmp_path / "none")


def test_a_failed_second_rename_brings_the_old_one_back(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "_exchange", lambda one, other: False)
    old = folder(tmp_path / "old", "old")
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "never written", old, room=tmp_path)
    assert (old / "file").read_text() == "old"


def test_an_interruption_leaves_the_old_one(tmp_path):
    old = folder(tmp_path / "old", "old")
    with pytest.raises(KeyboardInterrupt), fresh_path(old, folder=True) as fresh:
        folder(fresh, "half")
        raise KeyboardInterrupt
    assert (old / "file").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_killed_process_leaves_the_old_one(tmp_path):
    old = folder(tmp_path / "old", "old")
    program = f"""
        import os, pathlib, signal
        from semid.io.persistence import fresh_path
        with fresh_path({str(old)!r}, folder=True) as fresh:
            fresh.mkdir()
            (fresh / "file").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False).returncode != 0
    assert (old / "file").read_text() == "old"


def test_a_file_never_takes_the_place_of_a_folder_nor_a_folder_that_of_a_file(tmp_path):
    old = folder(tmp_path / "old", "old")
    with pytest.raises(InvalidValueError, match=r"old cannot be written: expected a file, got a folder\."):
        with fresh_path(old):
            raise AssertionError("nothing is written before the check")
    assert (old / "file").read_text() == "old"
    with pytest.raises(InvalidValueError, match="cannot be written: expected a folder, got a file"):
        with fresh_path(old / "file", folder=True):
            raise AssertionError("nothing is written before the check")


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    old, link = folder(tmp_path / "old", "old"), tmp_path / "link"
    link.symlink_to(old)
    with fresh_path(link, folder=True) as fresh:
        folder(fresh, "new")
    assert link.is_symlink() and (old / "file").read_text() == "new"
    file_link = tmp_path / "file link"
    file_link.symlink_to(old / "file")
    with fresh_path(file_link) as fresh:
        fresh.write_text("newer")
    assert file_link.is_symlink() and (old / "file").read_text() == "newer"


def test_what_killed_processes_left_is_removed(tmp_path):
    """A room of a process that is alive, or that somebody holds, stays; so does what only looks like one."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    rooms = {name: tmp_path / f".old.{name}" for name in (f"{dead.pid}.abc", f"{os.getpid()}.abc", "notes")}
    for room in rooms.values():
        folder(room, "half")
    held = tmp_path / f".old.{dead.pid}.held"
    folder(held, "half")
    opened = os.open(held, os.O_RDONLY)
    fcntl = pytest.importorskip("fcntl")
    fcntl.flock(opened, fcntl.LOCK_EX)
    with fresh_path(tmp_path / "old", folder=True) as fresh:
        folder(fresh, "new")
    os.close(opened)
    expected = {"old", f".old.{os.getpid()}.abc", ".old.notes", f".old.{dead.pid}.held"}
    assert {path.name for path in tmp_path.iterdir()} == expected


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o770])
def test_permissions_stay(tmp_path, mode):
    old = folder(tmp_path / "old", "old")
    old.chmod(mode)
    (old / "file").chmod(mode & 0o666)
    with fresh_path(old, folder=True) as fresh:
        folder(fresh, "new")
    assert stat.S_IMODE(old.stat().st_mode) == mode
    assert stat.S_IMODE((old / "file").stat().st_mode) == mode & 0o666
    with fresh_path(old / "file") as fresh:
        fresh.write_text("newer")
    assert stat.S_IMODE((old / "file").stat().st_mode) == mode & 0o666


def test_writers_that_make_one_folder_at_once(tmp_path):
    """Each finds nothing there when it begins; the folder is that of one of them, and all succeed."""
    program = """
        import sys, time
        from semid.io.persistence import fresh_path
        with fresh_path(sys.argv[1], folder=True) as fresh:
            fresh.mkdir()
            (fresh / "file").write_text(sys.argv[2])
            time.sleep(max(0.0, float(sys.argv[3]) - time.time()))
    """
    target, start = tmp_path / "new", str(time.time() + 1.5)
    command = [sys.executable, "-c", textwrap.dedent(program), str(target)]
    writers = [subprocess.Popen([*command, str(number), start]) for number in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert (target / "file").read_text() in set("0123") and [path.name for path in tmp_path.iterdir()] == ["new"]
