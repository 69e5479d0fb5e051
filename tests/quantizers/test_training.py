import numpy as np
import pytest

from semid.quantizers.levels import distinct_rows, fit_codebooks


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
