import re

import numpy as np
import pytest

from semid.errors import InvalidValueError
from semid.quantizers.training import distinct_rows, fit_codebooks, sample_rows


def sample(n_items, sizes, sample_size=None):
    return sample_rows(n_items, sizes, sample_size=sample_size, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "n_items, size, expected",
    [
        (1000, 8, 1000),
        (100_000, 8, 65_536),
        (300_000, 512, 131_072),
        (400_000, 4096, 262_144),
        (400_000, 10_000, 320_000),
    ],
)
def test_default_sample_size(n_items, size, expected):
    rows = sample(n_items, (2, size))
    assert len(rows) == expected
    assert (np.diff(rows) > 0).all() and rows[0] >= 0 and rows[-1] < n_items


def test_given_sample_size():
    assert len(sample(500, (8,), sample_size=100)) == 100
    np.testing.assert_array_equal(sample(50, (8,), sample_size=100), np.arange(50))


@pytest.mark.parametrize(
    "n_items, sample_size, text",
    [
        (
            10,
            None,
            "too few items for level 1: expected at least 12, its codebook_size, got n_samples=10. Give more items "
            "or lower codebook_size.",
        ),
        (
            50,
            11,
            "sample_size is too small for level 1: expected at least 12, its codebook_size, got 11. Raise sample_size",
        ),
    ],
)
def test_too_few_rows_are_refused(n_items, sample_size, text):
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        sample(n_items, (4, 12), sample_size)


def fit(x, sizes, **settings):
    residual = np.array(x, np.float32)
    settings = {"init": "progressive", "max_iter": 25, "rng": np.random.default_rng(0)} | settings
    return fit_codebooks(residual, sizes, **settings)[0], residual


@pytest.mark.parametrize("init", ["progressive", "k-means++"])
def test_each_level_explains_more(X, init):
    codebooks, residual = fit(X, (8, 8, 8), init=init)
    energies = [((fit(X, (8,) * levels, init=init)[1]) ** 2).sum() for levels in (1, 2, 3)]
    assert ((X - X.mean(axis=0)) ** 2).sum() > energies[0] > energies[1] > energies[2]
    assert energies[2] == pytest.approx((residual**2).sum())
    assert [book.shape for book in codebooks] == [(8, 32)] * 3


def test_fewer_distinct_rows_than_codes_leave_zero_vectors():
    x = np.repeat(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32), 4, axis=0)
    (first, second), residual = fit(x, (5, 4))
    np.testing.assert_array_equal(first, [[1, 2], [3, 4], [5, 6], [0, 0], [0, 0]])
    assert not second.any() and not residual.any()


def test_constant_embeddings_are_met_exactly():
    (first, second), _ = fit(np.full((20, 3), 0.1), (4, 4))
    np.testing.assert_array_equal(first[0], np.full(3, 0.1, np.float32))
    assert not first[1:].any() and not second.any()


def test_distinct_rows_come_in_order_and_stop_at_the_limit():
    x = np.array([[2.0], [0.0], [-0.0], [2.0], [1.0], [5.0]], np.float32)
    assert distinct_rows(x, limit=10)[:, 0].tolist() == [2, 0, 1, 5]
    assert distinct_rows(x, limit=2)[:, 0].tolist() == [2, 0, 1]


def test_no_bar_appears_off_a_terminal(X, capfd):
    fit(X, (4, 4), progress=True)
    assert capfd.readouterr() == ("", "")


def test_a_bar_appears_on_a_terminal_if_asked_for(X, monkeypatch, capfd):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fit(X, (4, 4), progress=True)
    assert "levels: 100%" in capfd.readouterr().err
    fit(X, (4, 4), progress=False)
    assert capfd.readouterr().err == ""
