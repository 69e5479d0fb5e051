import numpy as np
import pytest
from gensar.bootstrap import intervals
from gensar.ranking import metrics

from semid.errors import InvalidValueError


def test_agrees_with_drawing_the_requests_of_users_one_by_one(rng):
    users = np.repeat(np.arange(40), rng.integers(1, 4, 40))
    ranks = rng.integers(-1, 12, len(users))
    again = np.random.default_rng(3)
    drawn = []
    for _ in range(200):
        rows = np.concatenate([np.flatnonzero(users == user) for user in again.integers(40, size=40)])
        drawn.append(metrics(ranks[rows]))
    found = intervals(ranks, users, n_draws=200, seed=3)
    assert list(found) == [f"{name}@{k}" for k in (1, 5, 10, 20) for name in ("HR", "NDCG")]
    for name, ends in found.items():
        assert ends == pytest.approx(np.quantile([values[name] for values in drawn], [0.025, 0.975]), abs=1e-12)


def test_is_as_wide_as_the_standard_error_says(rng):
    """1,000 requests of 1,000 users: 1.96 sqrt(p (1 - p) / n) on each side, within the error of a thousand draws."""
    hit = rng.random(1000) < 0.3
    low, high = intervals(np.where(hit, 0, -1), np.arange(1000), cutoffs=(1,))["HR@1"]
    half = 1.96 * np.sqrt(hit.mean() * (1 - hit.mean()) / 1000)
    assert low == pytest.approx(hit.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(hit.mean() + half, abs=0.1 * half)


def test_users_may_have_any_numbers(rng):
    ranks = rng.integers(-1, 12, 50)
    assert intervals(ranks, np.arange(50)) == intervals(ranks, 7 * np.arange(50) + 3)


@pytest.mark.parametrize(("n_ranks", "n_users"), [(0, 0), (3, 2)])
def test_ranks_without_users(n_ranks, n_users):
    message = rf"got \({n_ranks},\) ranks and \({n_users},\) users\. Pass the users of the ranks\."
    with pytest.raises(InvalidValueError, match=message):
        intervals(np.zeros(n_ranks, dtype=int), np.zeros(n_users, dtype=int))
