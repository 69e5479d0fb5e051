import subprocess
import sys

import numpy as np
import pytest

from semid.io.mapped import drop_pages, mapping_of, take_rows


@pytest.fixture
def X(rng):
    return rng.normal(size=(700, 5)).astype(np.float32)


@pytest.mark.parametrize("mode", [None, "r", "r+", "c"])
def test_rows_are_those_of_the_array(X, tmp_path, mode):
    np.save(tmp_path / "X.npy", X)
    source = X if mode is None else np.load(tmp_path / "X.npy", mmap_mode=mode)
    rows = np.array([0, 3, 600, 600, 5])
    np.testing.assert_array_equal(take_rows(source, rows), X[rows])
    drop_pages(source)
    np.testing.assert_array_equal(source, X)


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_changes_survive(X, tmp_path, mode):
    np.save(tmp_path / "X.npy", X)
    source = np.load(tmp_path / "X.npy", mmap_mode=mode)
    source[3] = 7.0
    drop_pages(source)
    assert (source[3] == 7.0).all()


def test_parts_of_a_mapping_are_mappings(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    part = np.load(tmp_path / "X.npy", mmap_mode="r")[100:200]
    drop_pages(part)
    assert mapping_of(np.asarray(part)) is not None and mapping_of(X) is None
    np.testing.assert_array_equal(take_rows(part, np.array([1, 50])), X[[101, 150]])


READ_ALL = """
import resource, sys
import numpy as np
from semid.io.mapped import drop_pages, take_rows
X = np.load(sys.argv[1], mmap_mode="r")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for first in range(0, len(X), 1000):
    np.asarray(X)[first : first + 1000].sum()
    drop_pages(np.asarray(X))
take_rows(X, np.arange(0, len(X), 50))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are dropped, and ru_maxrss is in KiB, on Linux")
def test_a_file_does_not_stay_in_memory(tmp_path):
    np.save(tmp_path / "X.npy", np.zeros((50_000, 400), np.float32))  # 76 MiB
    grown = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(tmp_path / "X.npy")], check=True, capture_output=True, text=True
    ).stdout
    assert int(grown) < 40 * 1024
