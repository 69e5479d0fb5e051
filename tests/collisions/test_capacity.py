"""Sizes for a number of items."""

import numpy as np
import pytest

import semid
from semid.collisions.capacity import expected_collision_rate
from semid.errors import InvalidTypeError, InvalidValueError


@pytest.mark.parametrize(("n_items", "n_ids"), [(50, 40), (1000, 16**3), (3, 2), (7, 1)])
def test_the_expected_rate_is_that_of_random_ids(n_items, n_ids, rng):
    rates = [1 - len(np.unique(rng.integers(0, n_ids, n_items))) / n_items for _ in range(2000)]
    error = 4 * np.std(rates) / np.sqrt(len(rates))
    assert expected_collision_rate(n_items, n_ids) == pytest.approx(np.mean(rates), abs=error + 1e-12)


@pytest.mark.parametrize("n_items", [1, 500, 12_000, 1_000_000, 10**9])
def test_suggestions_keep_what_they_promise(n_items):
    for one in semid.suggest_sizes(n_items, codebook_sizes=[2, 256, 2048]):
        size, n_levels = one.codebook_sizes[0], len(one.codebook_sizes)
        assert one.n_ids == size**n_levels >= 2 * n_items and one.load == n_items / one.n_ids
        assert one.typical_rate <= 0.25
        assert one.random_rate <= one.low_rate <= one.typical_rate <= one.high_rate
        fewer = size ** (n_levels - 1)
        assert n_levels == 1 or fewer < 2 * n_items or expected_collision_rate(n_items, fewer**0.64) > 0.25


def test_messages():
    with pytest.raises(InvalidValueError, match=r"n_items is too small: expected at least 1, got 0\."):
        semid.suggest_sizes(0)
    with pytest.raises(InvalidTypeError, match=r"n_items has a wrong type: expected an integer, got float\."):
        semid.suggest_sizes(1e6)
    with pytest.raises(InvalidValueError, match=r"expected at least 2 codes each, got \[256, 1\]\. Enlarge"):
        semid.suggest_sizes(10, codebook_sizes=[256, 1])
    with pytest.raises(InvalidValueError, match=r"max_rate is out of range: expected between 0 and 1, got 0\."):
        semid.suggest_sizes(10, max_rate=0)
