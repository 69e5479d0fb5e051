from fractions import Fraction

import numpy as np
import pytest

import semid
from semid.collisions.sizes import expected_collision_rate
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


@pytest.mark.parametrize(("n_items", "n_ids"), [(2, 10**5), (1000, 10**7 + 1), (10**3, 10**8), (10**9, 10**30)])
def test_the_rate_of_sparse_items_keeps_its_digits(n_items, n_ids):
    exact = 1 - Fraction(n_ids, n_items) * (1 - (1 - Fraction(1, n_ids)) ** n_items) if n_items < 10**4 else None
    expected = (n_items - 1) / (2 * n_ids) if exact is None else float(exact)
    assert expected_collision_rate(n_items, n_ids) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("n_items", [10**8, 10**12, 2**63 - 1])
@pytest.mark.parametrize("max_rate", [1e-3, 1e-300], ids=str)
def test_numpy_integers_are_integers(n_items, max_rate):
    expected = semid.suggest_sizes(n_items, codebook_sizes=[256, 512], max_rate=max_rate)
    given = semid.suggest_sizes(np.int64(n_items), codebook_sizes=np.array([256, 512]), max_rate=np.float64(max_rate))
    assert given == expected and all(type(size) is int for one in given for size in one.codebook_sizes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebook_sizes": 256}, r"codebook_sizes has a wrong type: expected a sequence of integers, got 256\. Write"),
        ({"codebook_sizes": None}, r"expected a sequence of integers, got None\."),
        ({"codebook_sizes": "ab"}, r"expected a sequence of integers, got 'ab'\."),
        ({"codebook_sizes": [2.5]}, r"codebook_sizes\[0\] is not an integer: expected 1 or more, got 2\.5\. Pass"),
        ({"codebook_sizes": [16, "a"]}, r"codebook_sizes\[1\] is not an integer: expected 1 or more, got 'a'\."),
        ({"max_rate": "a"}, r"max_rate has a wrong type: expected a number, got 'a'\. Pass a share\."),
        ({"max_rate": None}, r"max_rate has a wrong type: expected a number, got None\."),
    ],
)
def test_wrong_types_are_named(options, message):
    with pytest.raises(InvalidTypeError, match=message):
        semid.suggest_sizes(10, **options)


def test_messages():
    with pytest.raises(InvalidValueError, match=r"n_items is too large: expected at most \d+, got about 10\^400\."):
        semid.suggest_sizes(10**400)
    with pytest.raises(InvalidValueError, match=r"n_items is too small: expected at least 1, got 0\."):
        semid.suggest_sizes(0)
    with pytest.raises(InvalidTypeError, match=r"n_items has a wrong type: expected an integer, got 1000000\.0\."):
        semid.suggest_sizes(1e6)
    with pytest.raises(InvalidValueError, match=r"expected at least 2 codes each, got \[256, 1\]\. Enlarge"):
        semid.suggest_sizes(10, codebook_sizes=[256, 1])
    with pytest.raises(InvalidValueError, match=r"max_rate is out of range: expected between 0 and 1, got 0\."):
        semid.suggest_sizes(10, max_rate=0)
