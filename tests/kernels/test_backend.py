"""The switch between the C extension and Numba."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import semid
from semid import kernels
from semid.errors import InvalidValueError, OptionalDependencyError

EXT = kernels.available()["ext"] is None


@pytest.fixture
def no_ext(monkeypatch):
    """A machine on which the extension was not built."""
    monkeypatch.setattr(kernels, "available", lambda: {"ext": "No module named 'semid_ext._core'", "numba": None})


def test_numba_takes_over_where_the_extension_is_missing(no_ext, monkeypatch):
    monkeypatch.delenv("SEMID_BACKEND", raising=False)
    assert kernels.active() == "numba"
    assert kernels.kernel("walk").__module__ == "semid.kernels.walk"


def test_a_missing_back_end_that_was_asked_for_raises(no_ext, monkeypatch):
    monkeypatch.setenv("SEMID_BACKEND", "ext")
    with pytest.raises(OptionalDependencyError, match=r"'ext' cannot be used.*Or set SEMID_BACKEND=auto"):
        semid.Trie.from_codes([[0]])
    with pytest.raises(OptionalDependencyError, match="got No module named"), kernels.use_backend("ext"):
        pytest.fail("the block must not run")


def test_an_unknown_back_end_raises(monkeypatch):
    monkeypatch.setenv("SEMID_BACKEND", "fortran")
    with pytest.raises(InvalidValueError, match="expected auto, ext or numba, got 'fortran'"):
        kernels.active()


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("SEMID_BACKEND", "numba")
    assert kernels.active() == "numba"


def test_use_backend_ends_with_its_block_and_its_thread(monkeypatch):
    monkeypatch.setenv("SEMID_BACKEND", "auto")
    before = kernels.active()
    seen = []
    with kernels.use_backend("numba"):
        assert kernels.active() == "numba"
        thread = threading.Thread(target=lambda: seen.append(kernels.active()))
        thread.start()
        thread.join()
    assert seen == [before] and kernels.active() == before


def test_show_backends_names_both_and_says_why(capsys, monkeypatch):
    monkeypatch.setenv("SEMID_BACKEND", "auto")
    semid.show_backends()
    out = capsys.readouterr().out
    assert "ext" in out and "numba" in out and ("SEMID_BACKEND=auto" in out)


def test_show_backends_tells_how_to_get_the_missing_one(capsys, no_ext, monkeypatch):
    monkeypatch.setenv("SEMID_BACKEND", "auto")
    semid.show_backends()
    assert "missing    No module named 'semid_ext._core'" in capsys.readouterr().out


@pytest.mark.skipif(not EXT, reason="the C extension was not built")
def test_the_extension_needs_no_numba():
    code = (
        "import sys, numpy as np\n"
        "from semid.kernels import kernel, use_backend\n"
        "with use_backend('ext'):\n"
        "    out = np.empty(1, np.int64); i8 = lambda *x: np.array(x, np.int64)\n"
        "    kernel('walk')(np.array([0, 1], np.int32), np.array([5], np.uint8), i8(0), i8(0, 1), i8(5)[None], out)\n"
        "assert out[0] == 0 and 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"SEMID_BACKEND": "auto"})


@pytest.mark.skipif(not EXT, reason="the C extension was not built")
@pytest.mark.parametrize("start", [np.int32, np.int64])
@pytest.mark.parametrize("code", [np.uint8, np.uint16, np.uint32])
def test_walk_is_the_same_on_every_type(start, code):
    starts, codes = np.array([0, 2, 0, 1, 3], start), np.array([4, 200, 7, 1, 9], code)
    i8 = np.int64
    prefixes = np.array([[4, 7], [200, 1], [200, 9], [200, 2], [5, 7], [-1, 7]], i8)
    found = []
    for name in kernels.BACKENDS:
        out = np.empty(len(prefixes), i8)
        with kernels.use_backend(name):
            kernels.kernel("walk")(starts, codes, np.array([0, 2], i8), np.array([0, 2, 5], i8), prefixes, out)
        found.append(out.tolist())
    assert found == [[0, 1, 2, -1, -1, -1]] * 2


@pytest.mark.skipif(not EXT, reason="the C extension was not built")
def test_the_extension_refuses_what_it_cannot_read():
    walk = kernels.kernel("walk")
    i8, starts, codes = np.zeros(1, np.int64), np.array([0, 1], np.int32), np.array([5], np.uint8)
    rows, out = np.zeros((1, 1), np.int64), np.zeros(1, np.int64)
    with kernels.use_backend("ext"):
        walk = kernels.kernel("walk")
    with pytest.raises(TypeError, match="walk got arrays of a wrong type or shape"):
        walk(starts.astype(np.int16), codes, i8, i8, rows, out)
    with pytest.raises(TypeError, match="walk got arrays of a wrong type or shape"):
        walk(starts, codes, i8, i8, rows, np.zeros(2, np.int64))
    with pytest.raises((ValueError, BufferError)):
        walk(starts, codes, i8, i8, np.zeros((4, 4), np.int64)[::2, ::2], out)
    out.setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        walk(starts, codes, i8, i8, rows, out)
    with pytest.raises(TypeError):
        walk(starts)
