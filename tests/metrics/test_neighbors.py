import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import neighbor_recall_oracle

from semid.metrics import neighbors
from semid.metrics.neighbors import neighbor_recall


def measure(X, decoded, queries=None, *, k):
    X, decoded = np.asarray(X, dtype=np.float32), np.asarray(decoded, dtype=np.float32)
    queries = np.arange(len(X)) if queries is None else np.asarray(queries)
    return neighbor_recall(X.__getitem__, decoded.__getitem__, queries, n_items=len(X), k=k)


points = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=5, max_size=5)


@given(points, points, st.integers(1, 4))
def test_agrees_with_the_mean_over_all_orders_of_ties(X, decoded, k):
    expected = neighbor_recall_oracle(X, decoded, range(5), k)
    assert measure(X, decoded, k=k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("block", [1, 100, 2**22], ids="block {}".format)
def test_agrees_with_oracle_in_any_blocks(rng, monkeypatch, block):
    monkeypatch.setattr(neighbors, "BLOCK_DISTANCES", block)
    X = rng.standard_normal((60, 6)).astype(np.float32)
    decoded = X + 0.4 * rng.standard_normal(X.shape).astype(np.float32)
    expected = neighbor_recall_oracle(X, decoded, [0, 7, 59], 5, orders=[range(60)])
    assert 0.2 < expected < 1
    assert measure(X, decoded, [0, 7, 59], k=5) == pytest.approx(expected, abs=1e-12)


def test_equal_spaces_have_recall_one_even_with_duplicates(rng):
    X = np.repeat(rng.standard_normal((4, 3)), 20, axis=0)
    assert measure(X, X, k=10) == 1.0


def test_a_collapsed_quantizer_scores_what_guessing_scores(rng):
    X = rng.standard_normal((41, 3))
    assert measure(X, np.ones_like(X), k=10) == pytest.approx(10 / 40)


def test_far_from_zero_keeps_the_digits(rng):
    X = np.round(rng.standard_normal((50, 3)), 2) + 4096
    assert measure(X, X, k=3) == 1.0
    shifted = X.astype(np.float32) - 4096
    assert measure(X, shifted, k=3) == 1.0
