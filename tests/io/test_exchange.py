"""A folder takes the place of another one, whole or not at all."""

import subprocess
import sys
import textwrap

import pytest

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
    with pytest.raises(KeyboardInterrupt), fresh_path(old) as fresh:
        folder(fresh, "half")
        raise KeyboardInterrupt
    assert (old / "file").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_killed_process_leaves_the_old_one(tmp_path):
    old = folder(tmp_path / "old", "old")
    program = f"""
        import os, pathlib, signal
        from semid.io.persistence import fresh_path
        with fresh_path({str(old)!r}) as fresh:
            fresh.mkdir()
            (fresh / "file").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False).returncode != 0
    assert (old / "file").read_text() == "old"
