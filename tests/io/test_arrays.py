import re
from pathlib import Path

import numpy as np
import pytest
import torch

from semid.errors import InvalidTypeError, InvalidValueError
from semid.io.arrays import check_codes, check_embeddings, code_dtype, float_block, open_embeddings


@pytest.fixture
def X(rng):
    return rng.normal(size=(6, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "size, dtype", [(1, "u1"), (2, "u1"), (256, "u1"), (257, "u2"), (65_536, "u2"), (65_537, "u4")]
)
def test_code_dtype_is_the_smallest_that_fits(size, dtype):
    assert code_dtype(size) == np.dtype(dtype)


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


@pytest.mark.parametrize("rows", [slice(2, 6), np.array([0, 3, 4])], ids=["slice", "index"])
def test_float_block_names_the_row_of_the_whole_matrix(X, rows):
    X[4, 1] = np.nan
    with pytest.raises(InvalidValueError, match="got nan at column 1 in row 4"):
        float_block(X, rows)


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
    with pytest.raises(InvalidValueError, match=r"too few items: expected at least 7, got n_samples=6"):
        check_embeddings(X, min_items=7)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "text.npy").write_text("not an array")
    with pytest.raises(InvalidValueError, match=r"expected a \.npy file of numbers, got .*text\.npy .*numpy\.save"):
        check_embeddings(tmp_path / "text.npy")


def test_an_archive_is_refused(tmp_path):
    np.savez(tmp_path / "X.npz", X=np.eye(2))
    with pytest.raises(InvalidValueError, match=r"expected a \.npy file of one array, got the archive .*X\.npz"):
        check_embeddings(tmp_path / "X.npz")


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
