import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import semid
from semid._checks import code_dtype
from semid.errors import InvalidTypeError, InvalidValueError
from semid.io.matrices import check_codes, drop_pages, float_block, mapping_of, take_rows


@pytest.fixture
def X(rng):
    return rng.normal(size=(700, 5)).astype(np.float32)


@pytest.mark.parametrize("rows", [slice(2, 6), np.array([0, 3, 4])], ids=["slice", "index"])
def test_float_block_names_the_row_of_the_whole_matrix(X, rows):
    X[4, 1] = np.nan
    with pytest.raises(InvalidValueError, match="got nan at column 1 in row 4"):
        float_block(X, rows)


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
from semid.io.matrices import drop_pages, take_rows
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


@pytest.mark.parametrize(
    "size, dtype", [(1, "u1"), (2, "u1"), (256, "u1"), (257, "u2"), (65_536, "u2"), (65_537, "u4")]
)
def test_code_dtype_is_the_smallest_that_fits(size, dtype):
    assert code_dtype(size) == np.dtype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint64"])
def test_codes_become_the_smallest_dtype(dtype):
    codes = check_codes(np.array([[0, 200], [1, 5]], dtype, order="F"), (2, 300))
    assert codes.dtype == np.uint16 and codes.flags.c_contiguous and codes.tolist() == [[0, 200], [1, 5]]


def test_codes_come_from_lists_tensors_and_empty_arrays():
    np.testing.assert_array_equal(check_codes([[1, 2]], (2, 3)), [[1, 2]])
    np.testing.assert_array_equal(check_codes(torch.tensor([[1, 2]]), (2, 3)), [[1, 2]])
    assert check_codes(np.empty((0, 2)), (2, 3)).dtype == np.uint8


@pytest.mark.parametrize(
    "codes, error, text",
    [
        (
            [[0, 0], [1, 3]],
            InvalidValueError,
            "codes lies outside the codebook: expected 0 to 2 at level 1, got 3 in row 1.",
        ),
        ([[-1, 0]], InvalidValueError, "expected 0 to 1 at level 0, got -1 in row 0. Encode with the same quantizer."),
        ([[0]], InvalidValueError, "codes has a wrong shape: expected (n_items, 2), got (1, 1). Pass one row per item"),
        ([0, 1], InvalidValueError, "expected (n_items, 2), got (2,)"),
        (
            [[0.0, 1.0]],
            InvalidTypeError,
            "codes has a wrong dtype: expected integers, got float64. Convert whole numbers",
        ),
    ],
)
def test_unusable_codes_are_refused(codes, error, text):
    with pytest.raises(error, match=re.escape(text)):
        check_codes(codes, (2, 3))


@pytest.mark.parametrize("value", [2e15, 3e18, np.finfo(np.float32).max])
def test_squares_whose_sums_leave_float32_are_refused(value):
    X = np.ones((3, 4), np.float32)
    X[1, 2] = value
    with pytest.raises(InvalidValueError, match=r"a square too large for float32: expected .* at column 2 in row 1"):
        float_block(X, slice(0, 3))


@pytest.mark.parametrize("make", [semid.KMeans, semid.ResidualKMeans, semid.ProductKMeans])
def test_values_whose_squares_vanish_are_refused(make, rng):
    X = rng.standard_normal((300, 8)).astype(np.float32)
    with pytest.raises(InvalidValueError, match=r"X varies too little: expected values that differ by 1e-15 or more"):
        make(codebook_size=4).fit(X * np.float32(1e-30))
    small = make(codebook_size=4).fit(X * np.float32(1e-12))
    np.testing.assert_array_equal(small.encode(X * np.float32(1e-12)), small.encode(X * np.float32(1e-12)))
    assert len(np.unique(small.encode(X * np.float32(1e-12)), axis=0)) > 3
    make(codebook_size=1).fit(np.zeros((9, 8)))  # equal rows are one item, not a fault of the scale


def test_views_whose_squares_vanish_are_refused(rng):
    views = {"semantic": rng.standard_normal((300, 8)), "collaborative": 1e-30 * rng.standard_normal((300, 4))}
    with pytest.raises(InvalidValueError, match="view 'collaborative' varies too little"):
        semid.SharedSpecificKMeans(codebook_size=4).fit(views)
