import re

import numpy as np
import pytest

from semid.errors import InvalidTypeError, InvalidValueError, OptionalDependencyError
from semid.io.batches import open_embeddings
from semid.io.parquet import read_parquet
from semid.quantizers import ResidualKMeans


@pytest.fixture
def arrow():
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: expected the 'data' extra")
    import pyarrow
    import pyarrow.parquet

    return pyarrow


@pytest.fixture
def X(rng):
    return rng.normal(size=(60, 4)).astype(np.float32)


def write(arrow, path, **columns):
    arrow.parquet.write_table(arrow.table(columns), path)
    return path


@pytest.mark.parametrize("kind", ["lists", "fixed lists", "halves", "doubles"])
def test_a_column_of_lists_is_the_matrix(arrow, X, tmp_path, kind):
    if kind == "fixed lists":
        column = arrow.FixedSizeListArray.from_arrays(arrow.array(X.ravel()), 4)
    else:
        dtype = {"lists": np.float32, "halves": np.float16, "doubles": np.float64}[kind]
        column = arrow.array([row.astype(dtype) for row in X])
    path = write(arrow, tmp_path / "items.parquet", item_id=arrow.array(range(60)), embedding=column)
    atol = 2e-3 if kind == "halves" else 0
    np.testing.assert_allclose(open_embeddings(path), X, atol=atol)
    np.testing.assert_allclose(open_embeddings(f"{path}::embedding"), X, atol=atol)


def test_a_column_of_categories_is_no_column_of_lists(arrow, X, tmp_path):
    brands = arrow.array(["a", "b"] * 30).dictionary_encode()
    path = write(arrow, tmp_path / "items.parquet", brand=brands, embedding=arrow.array(list(X)))
    np.testing.assert_array_equal(open_embeddings(path), X)
    with pytest.raises(InvalidTypeError, match="is not a column of lists: expected lists of numbers in 'brand', got d"):
        open_embeddings(f"{path}::brand")


def test_a_quantizer_reads_it_like_an_array(arrow, X, tmp_path):
    path = write(arrow, tmp_path / "items.parquet", text=arrow.array(list(X)), image=arrow.array(list(-X)))
    quantizer = ResidualKMeans(2, 4).fit(f"{path}::image")
    np.testing.assert_array_equal(quantizer.codebooks[0], ResidualKMeans(2, 4).fit(-X).codebooks[0])
    np.testing.assert_array_equal(quantizer.encode(f"{path}::text"), quantizer.encode(X))


def test_files_that_do_not_fit_are_refused(arrow, X, tmp_path):
    path = write(
        arrow, tmp_path / "a.parquet", b=arrow.array(list(X)), c=arrow.array(list(X)), d=arrow.array(range(60))
    )
    for column, error, text in [
        (
            "",
            InvalidValueError,
            f"X needs a column of lists: expected one of 'b', 'c', got 'no name'. Name it as in '{path}",
        ),
        ("::e", InvalidValueError, "expected one of 'b', 'c', got 'e'."),
        (
            "::d",
            InvalidTypeError,
            "X is not a column of lists: expected lists of numbers in 'd', got int64. Name another",
        ),
    ]:
        with pytest.raises(error, match=re.escape(text)):
            list(read_parquet(f"{path}{column}"))
    for rows, error, text in [
        ([[1.0, 2.0], None], InvalidValueError, "X, column 'b', has no list in row 1: expected numbers, got null."),
        (
            [[1.0, 2.0], [None, 1.0]],
            InvalidValueError,
            "X, column 'b', has gaps: expected numbers, got null from row 0 on.",
        ),
        (
            [[1.0, 2.0], [1.0]],
            InvalidValueError,
            "X, column 'b', is ragged: expected rows of one length, got 2 and, in row 1, 1",
        ),
    ]:
        with pytest.raises(error, match=re.escape(text)):
            list(read_parquet(write(arrow, tmp_path / "bad.parquet", b=arrow.array(rows))))
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(InvalidValueError, match=r"X cannot be read: expected a parquet file, got .*text\.parquet \("):
        list(read_parquet(tmp_path / "text.parquet"))
    with pytest.raises(InvalidValueError, match=r"expected a parquet file, got .*none\.parquet, not a file"):
        list(read_parquet(tmp_path / "none.parquet"))


def test_without_pyarrow_the_extra_is_named(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(OptionalDependencyError, match=r"pip install 'semid\[data\]'"):
        list(read_parquet(tmp_path / "items.parquet"))
