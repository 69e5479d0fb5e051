"""A folder takes the place of another one, whole or not at all."""

import subprocess
import sys
import textwrap
from pathlib import Path

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


def test_the_working_directory_stays_the_same_folder(tmp_path, monkeypatch):
    here, room = folder(tmp_path / "here", "old"), tmp_path / "room"
    (here / "gone").write_text("old")
    room.mkdir()
    monkeypatch.chdir(here)
    put_in_place(folder(tmp_path / "new", "new"), here, room=room)
    assert Path("file").read_text() == "new" and not Path("gone").exists()
    assert (room / "replaced" / "gone").read_text() == "old"


def test_a_failed_move_brings_the_entries_of_the_working_directory_back(tmp_path, monkeypatch):
    here, room, new = folder(tmp_path / "here", "old"), tmp_path / "room", folder(tmp_path / "new", "new")
    room.mkdir()
    monkeypatch.chdir(here)
    rename = Path.rename

    def fail(self, target):
        if self.parent == new:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        put_in_place(new, here, room=room)
    assert Path("file").read_text() == "old"
