import numpy as np
import pytest

from semid.errors import InvalidValueError
from semid.io.arrays import open_embeddings
from semid.io.batches import BLOCK_ROWS, is_stream, iter_batches, iter_blocks, reservoir_sample


@pytest.fixture
def X(rng):
    return rng.normal(size=(50, 3)).astype(np.float32)


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
