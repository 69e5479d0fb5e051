"""The baselines that come from other libraries, against plain computations."""

import numpy as np
import pytest
from gensar.baselines import known_items
from gensar.dataset import TEST, targets
from gensar.lab import rivals
from gensar.lab.rivals import Als, Dense, Markov, Rivals, check_implicit, tune_als

from semid.errors import OptionalDependencyError


@pytest.fixture
def embeddings(toy, rng):
    def unit(n):
        drawn = rng.standard_normal((n, 6)).astype(np.float32)
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    return unit(toy.n_items), unit(toy.n_queries)


def test_als_solves_the_users_least_squares(toy):
    """Hu, Koren and Volinsky 2008, eq. 4: x = (Y'Y + Y'(C - I)Y + lambda I)^-1 Y'C p, in float64."""
    pytest.importorskip("implicit")
    als = Als(known_items(toy, split=TEST), n_items=toy.n_items, factors=32, alpha=10.0, seed=0)
    history = np.array([3, 8, 8, 15])
    factors = als.model.item_factors.astype(np.float64)
    weights = np.ones(toy.n_items)
    wanted = np.zeros(toy.n_items)
    wanted[history] = 1
    weights[history] = 10.0
    left = (factors * weights[:, None]).T @ factors + rivals.REGULARIZATION * np.eye(factors.shape[1])
    expected = factors @ np.linalg.solve(left, factors.T @ (weights * wanted))
    np.testing.assert_allclose(als.scores(history), expected, rtol=2e-3, atol=2e-3)


def test_als_is_the_same_every_time(toy):
    pytest.importorskip("implicit")
    known = known_items(toy, split=TEST)
    first, again = (
        Als(known, n_items=toy.n_items, factors=32, alpha=1.0, seed=3).scores(np.array([1, 2])) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_users_of_one_group_are_recommended_its_items(toy):
    """Users of the toy stay within one half of the catalogue, and so do the best scores."""
    pytest.importorskip("implicit")
    als = Als(known_items(toy, split=TEST), n_items=toy.n_items, factors=32, alpha=10.0, seed=0)
    assert set(np.argsort(-als.scores(np.array([0, 1, 2])))[:10]) <= set(range(20))


def test_the_markov_chain_agrees_with_a_plain_scan(rng):
    known = [rng.integers(0, 9, size) for size in (0, 1, 2, 3, 12, 15)]
    chain = Markov(known, n_items=9)
    history = rng.integers(0, 9, 7)
    expected = np.zeros(9)
    for age, event in enumerate(history[::-1][:5]):
        for items in known:
            for a in range(len(items)):
                for b in range(a + 1, min(a + 4, len(items))):
                    expected[items[b]] += 0.5**age * (items[a] == event) / (b - a)
    np.testing.assert_allclose(chain.scores(history), expected)
    assert not chain.scores(history[:0]).any()


def test_dense_scores_are_cosines(embeddings):
    items, queries = embeddings
    np.testing.assert_allclose(Dense(items, queries).scores(2), [float(item @ queries[2]) for item in items], rtol=1e-5)


def test_rows_of_both_protocols(toy, embeddings, monkeypatch):
    pytest.importorskip("implicit")
    monkeypatch.setattr(rivals, "FACTORS", (8,))
    found = Rivals(toy, *embeddings, seed=0)
    assert found.als_options["alpha"] in rivals.ALPHAS
    assert 1 <= found.sasrec_training["best_epoch"] <= found.sasrec_training["epochs"]
    everything = found.measure()
    assert {task: list(rows) for task, rows in everything.items()} == {
        "recommendation": ["Markov chain", "ALS, implicit", "SASRec"],
        "search": ["MiniLM, dense"],
    }
    alone = {
        task: np.array(
            [[toy.histories[user].item[event]] for user, event in targets(toy.histories, task=task, split=TEST)]
        )
        for task in everything
    }
    for rows in found.measure(cutoffs=(1,), candidates=alone).values():
        assert all(values == {"HR@1": 1.0, "NDCG@1": 1.0} for values in rows.values())


def test_the_best_of_the_validation_is_taken(toy, monkeypatch):
    pytest.importorskip("implicit")
    monkeypatch.setattr(rivals, "FACTORS", (8, 16))
    monkeypatch.setattr(rivals, "ALPHAS", (1.0, 10.0))
    scores = iter([0.1, 0.4, 0.3, 0.4])
    monkeypatch.setattr(rivals, "_measure", lambda *_, **__: {"NDCG@10": next(scores)})
    assert tune_als(toy, seed=0) == {"factors": 8, "alpha": 10.0}


def test_a_missing_package_is_named(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", missing)
    message = r"cannot import implicit: expected it for --baselines all, got .*\. Run pip install implicit\."
    with pytest.raises(OptionalDependencyError, match=message):
        check_implicit()
