import re
from pathlib import Path

import numpy as np
import pytest
import torch

from semid.errors import InvalidTypeError, InvalidValueError
from semid.io.batches import (
    BLOCK_ROWS,
    check_embeddings,
    is_stream,
    iter_batches,
    iter_blocks,
    open_embeddings,
    reservoir_sample,
)
from semid.io.matrices import float_block


@pytest.fixture
def X(rng):
    return rng.normal(size=(50, 3)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint16", "int64", "bool"])
def test_every_real_dtype_becomes_float32(dtype):
    X = np.arange(6).reshape(2, 3).astype(dtype)
    checked = check_embeddings(X)
    assert checked.dtype == np.float32 and checked.flags.c_contiguous
    np.testing.assert_array_equal(checked, X.astype(np.float32))


def test_float32_in_c_order_is_not_copied(X):
    assert np.shares_memory(check_embeddings(X), X)


@pytest.mark.parametrize(
    "view", [np.asfortranarray, lambda X: X[::-1], lambda X: X[:, ::-1]], ids=["fortran", "rows back", "columns back"]
)
def test_other_layouts_are_copied_to_c_order(X, view):
    checked = check_embeddings(view(X))
    assert checked.flags.c_contiguous
    np.testing.assert_array_equal(checked, view(X))


def test_lists_are_taken():
    np.testing.assert_array_equal(check_embeddings([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]], np.float32))


def test_objects_that_are_numbers_are_taken():
    np.testing.assert_array_equal(check_embeddings(np.array([[1, 2.5]], object)), np.array([[1, 2.5]], np.float32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32])
def test_tensors_are_taken_with_their_gradient_left_behind(dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    if dtype.is_floating_point:
        tensor.requires_grad_()
    np.testing.assert_array_equal(check_embeddings(tensor), np.arange(6).reshape(2, 3))


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_file_is_mapped_not_read(X, tmp_path, as_path):
    np.save(tmp_path / "X.npy", X)
    opened = open_embeddings(as_path(tmp_path / "X.npy"))
    assert isinstance(opened, np.memmap)
    checked = check_embeddings(as_path(tmp_path / "X.npy"))
    assert not checked.flags.writeable
    np.testing.assert_array_equal(checked, X)


def test_open_embeddings_reads_no_values(X):
    X[4, 1] = np.nan
    assert open_embeddings(X) is X
    float_block(X, slice(0, 4))


@pytest.mark.parametrize(
    "make, error, text",
    [
        (
            lambda: np.zeros(3),
            InvalidValueError,
            r"X has a wrong shape: expected (n_items, dim), got (3,). Reshape your",
        ),
        (lambda: np.zeros((2, 3, 4)), InvalidValueError, r"expected (n_items, dim), got (2, 3, 4)"),
        (
            lambda: np.zeros((0, 3)),
            InvalidValueError,
            "X has too few items: expected at least 1, got n_samples=0, shape (0",
        ),
        (lambda: np.zeros((3, 0)), InvalidValueError, "X is empty: expected a dim of 1 or more, got 0 feature(s)"),
        (lambda: np.zeros((3, 2), complex), InvalidValueError, "Complex data not supported: X has dtype complex128"),
        (lambda: np.array([["a", "b"]]), InvalidTypeError, "X is not numeric: expected real numbers, got dtype <U1."),
        (lambda: np.array([[{}, 1]]), InvalidTypeError, "X is not numeric: expected real numbers, argument must be"),
        (lambda: [[1, 2], [3]], InvalidValueError, "X is ragged: expected rows of one length, got list"),
        (
            lambda: "no/such/file.npy",
            InvalidValueError,
            "X cannot be read: expected a .npy file, got no/such/file.npy, not",
        ),
        (
            lambda: [[1.0], [np.inf]],
            InvalidValueError,
            "X contains NaN, infinity, or a square too large for float32: "
            "expected finite numbers, got inf at column 0 in row 1. Drop or repair that row.",
        ),
        (lambda: [[1.0, 1e300]], InvalidValueError, "got inf at column 1 in row 0"),
        (lambda: [[1.0, -1e30]], InvalidValueError, "got -1.0000000150474662e+30 at column 1 in row 0"),
    ],
)
def test_unusable_embeddings_are_refused(make, error, text):
    with pytest.raises(error, match=re.escape(text)):
        check_embeddings(make())


def test_a_sparse_matrix_is_refused():
    from scipy.sparse import csr_array

    with pytest.raises(
        InvalidTypeError, match=r"X is a sparse matrix: expected a dense array, got csr_array\. Call its"
    ):
        check_embeddings(csr_array(np.eye(2)))


@pytest.mark.filterwarnings("ignore:.*(deprecated|beta state):UserWarning")  # of the kinds of tensors that are refused
@pytest.mark.parametrize(
    "kind, got",
    [
        (lambda x: x.to_sparse(), "torch.sparse_coo, torch.float32 on device cpu"),
        (lambda x: x.to_sparse_csr(), "torch.sparse_csr"),
        (lambda x: x.to("meta"), "torch.strided, torch.float32 on device meta"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "torch.strided, torch.qint8"),
    ],
    ids=["sparse", "sparse rows", "meta", "quantized"],
)
def test_tensors_without_plain_numbers_are_refused(kind, got):
    text = rf"X is a tensor without plain numbers: expected a dense tensor, got {got}.*\. Make it one, as with to_dense"
    with pytest.raises(InvalidTypeError, match=text):
        check_embeddings(kind(torch.ones(3, 2)))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_floats_of_eight_bits_are_taken(dtype):
    X = torch.tensor([[0.5, 1.0]]).to(getattr(torch, dtype))
    np.testing.assert_array_equal(check_embeddings(X), [[0.5, 1.0]])


def test_a_wrong_dim_is_refused(X):
    with pytest.raises(
        InvalidValueError, match=r"view 'a' has another dim: expected 4, got 3\. Use the embedding model"
    ):
        check_embeddings(X, name="view 'a'", dim=4)


def test_too_few_items_are_refused(X):
    with pytest.raises(InvalidValueError, match=r"too few items: expected at least 51, got n_samples=50"):
        check_embeddings(X, min_items=51)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "text.npy").write_text("not an array")
    with pytest.raises(InvalidValueError, match=r"expected a \.npy file of numbers, got .*text\.npy .*numpy\.save"):
        check_embeddings(tmp_path / "text.npy")


def test_a_file_of_an_impossible_shape_is_refused(tmp_path):
    whole = np.zeros((2, 3), np.uint8)
    np.save(tmp_path / "X.npy", whole)
    data = (tmp_path / "X.npy").read_bytes()
    (tmp_path / "X.npy").write_bytes(data.replace(b"(2, 3), }" + b" " * 18, b"(%d, %d), }" % (2**40, 2**23)))
    with pytest.raises(InvalidValueError, match=r"expected a \.npy file of numbers, got .*X\.npy .*numpy\.save"):
        check_embeddings(tmp_path / "X.npy")


def test_an_archive_is_refused(tmp_path):
    np.savez(tmp_path / "X.npz", X=np.eye(2))
    with pytest.raises(InvalidValueError, match=r"expected a \.npy file of one array, got the archive .*X\.npz"):
        check_embeddings(tmp_path / "X.npz")


def test_what_is_a_stream(X, tmp_path):
    streams = [iter([X]), (part for part in [X]), [X, X], (X,), "items.parquet", tmp_path / "a.parquet", "a.parquet::b"]
    matrices = [X, X.tolist(), [], "items.npy", tmp_path / "items.npy", {"a": X}, [[1, 2]], 3]
    assert [is_stream(each) for each in streams] == [True] * len(streams)
    assert [is_stream(each) for each in matrices] == [False] * len(matrices)


def test_batches_are_checked_and_empty_ones_left_out(X):
    batches = list(iter_batches([X[:20].astype(np.float64), X[:0], X[20:]]))
    assert [batch.dtype for batch in batches] == [np.float32] * 2
    np.testing.assert_array_equal(np.concatenate(batches), X)
    np.testing.assert_array_equal(open_embeddings(iter([X[:20], X[20:]])), X)


def test_blocks_are_the_rows_of_whatever_comes(rng, tmp_path):
    X = rng.normal(size=(BLOCK_ROWS + 3, 2)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    for given, lengths in ((X, [BLOCK_ROWS, 3]), (tmp_path / "X.npy", [BLOCK_ROWS, 3]), ([X[:5], X[5:]], None)):
        blocks = list(iter_blocks(given, dim=2))
        assert lengths in (None, [len(block) for block in blocks])
        np.testing.assert_array_equal(np.concatenate(blocks), X)


def test_blocks_of_another_dim_are_refused(X):
    for given in (X, [X]):
        with pytest.raises(InvalidValueError, match=r"part has another dim: expected 4, got 3"):
            list(iter_blocks(given, name="part", dim=4))


@pytest.mark.parametrize(
    "spoil, text",
    [
        (lambda X: [X, X[:, :2]], r"X, batch 1, has another dim: expected 3, got 2"),
        (lambda X: [X, X * np.float32(np.nan)], r"X, batch 1, contains NaN.* got nan at column 0 in row 0"),
        (lambda X: iter([]), r"X has too few items: expected at least 1, got n_samples=0 in all batches\. An iterator"),
        (lambda X: [X, X[0]], r"X, batch 1, has a wrong shape: expected \(n_items, dim\), got \(3,\)"),
    ],
)
def test_bad_batches_are_refused(X, spoil, text):
    with pytest.raises(InvalidValueError, match=text):
        list(iter_batches(spoil(X)))


def numbered(n_items, batch_rows):
    rows = np.arange(n_items, dtype=np.float32)[:, None]
    return (rows[first : first + batch_rows] for first in range(0, n_items, batch_rows))


@pytest.mark.parametrize("batch_rows", [1, 7, 64, 1000])
def test_a_sample_has_distinct_rows_in_the_order_of_the_stream(batch_rows):
    sample, n_items = reservoir_sample(numbered(300, batch_rows), 64, np.random.default_rng(0))
    assert n_items == 300 and sample.shape == (64, 1)
    assert (np.diff(sample[:, 0]) > 0).all()


@pytest.mark.parametrize("size", [300, 1000])
def test_a_short_stream_comes_back_as_it_is(size):
    sample, n_items = reservoir_sample(numbered(300, 64), size, np.random.default_rng(0))
    np.testing.assert_array_equal(sample[:, 0], np.arange(300))
    assert n_items == 300


def test_every_row_is_as_likely_as_any_other():
    counts = np.zeros(40)
    for seed in range(2000):
        sample, _ = reservoir_sample(numbered(40, 9), 10, np.random.default_rng(seed))
        counts[sample[:, 0].astype(int)] += 1
    # 2,000 draws of probability 1/4: mean 500, standard deviation 19.4.
    assert np.abs(counts - 500).max() < 4 * 19.4
