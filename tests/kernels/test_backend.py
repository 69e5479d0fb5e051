"""The switch between the C extension and Numba."""

import os
import subprocess
import sys
import textwrap
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
        "out = np.empty(1, np.int64); i8 = lambda *x: np.array(x, np.int64)\n"
        "no = np.empty(0, np.uint64)\n"
        "with use_backend('ext'):\n"
        "    kernel('walk')(np.empty(0, np.int32), np.array([0, 1], np.int32), np.array([5], np.uint8), no, i8(0, 2),\n"
        "                   i8(0, 1), no, i8(), i8(5)[None], out)\n"
        "assert out[0] == 0 and 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"SEMID_BACKEND": "auto"})


def walk_arguments(start=np.int32, code=np.uint8, alive=()):
    """The arrays of the IDs (4, 7), (200, 1), (200, 9), with one explicit level, and of six prefixes."""
    i8 = np.int64
    counts = np.zeros(len(alive), i8)
    return [
        np.array([0, 2], start),
        np.array([0, 3, 0, 1, 3], start),
        np.array([4, 200, 7, 1, 9], code),
        np.empty(0, np.uint64),
        np.array([0, 2, 5], i8),
        np.array([0, 2, 5], i8),
        np.array(alive, np.uint64),
        counts,
        np.array([[4, 7], [200, 1], [200, 9], [200, 2], [5, 7], [-1, 7]], i8),
        np.empty(6, i8),
    ]


@pytest.mark.skipif(not EXT, reason="the C extension was not built")
@pytest.mark.parametrize("start", [np.int32, np.int64])
@pytest.mark.parametrize("code", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize(("alive", "expected"), [((), [0, 1, 2, -1, -1, -1]), ([0b101], [0, -1, 2, -1, -1, -1])])
def test_walk_is_the_same_on_every_type(start, code, alive, expected):
    for name in kernels.BACKENDS:
        arguments = walk_arguments(start, code, alive)
        with kernels.use_backend(name):
            kernels.kernel("walk")(*arguments)
        assert arguments[-1].tolist() == expected


@pytest.mark.skipif(not EXT, reason="the C extension was not built")
def test_the_extension_refuses_what_it_cannot_read():
    with kernels.use_backend("ext"):
        walk = kernels.kernel("walk")
    for at, wrong in ((0, np.zeros(2, np.int16)), (1, np.zeros(5, np.int64)), (9, np.zeros(2, np.int64))):
        arguments = walk_arguments()
        arguments[at] = wrong
        with pytest.raises(TypeError, match="walk got arrays of a wrong type or shape"):
            walk(*arguments)
    arguments = walk_arguments()
    arguments[8] = np.zeros((12, 4), np.int64)[::2, ::2]
    with pytest.raises((ValueError, BufferError)):
        walk(*arguments)
    arguments = walk_arguments()
    arguments[9].setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        walk(*arguments)
    with pytest.raises(TypeError):
        walk(arguments[0])


def test_without_a_folder_for_compiled_kernels_they_are_compiled_anew(tmp_path):
    """As in a read-only install without a home; it is said once."""
    program = """
        from numba.core import caching
        for name in dir(caching):
            if hasattr(getattr(caching, name), "_locator_classes"):
                getattr(caching, name)._locator_classes = []
        import numpy as np
        import semid
        X = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
        print(semid.ResidualKMeans(n_levels=2, codebook_size=16, seed=0).fit(X).encode(X).tobytes().hex())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    X = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    expected = semid.ResidualKMeans(n_levels=2, codebook_size=16, seed=0).fit(X).encode(X)
    assert done.stdout.strip() == expected.tobytes().hex()
    assert done.stderr.count("Numba finds no folder to keep compiled kernels in") == 1
