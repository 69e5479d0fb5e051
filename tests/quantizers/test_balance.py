import re

import numpy as np
import pytest

from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers import ResidualKMeans
from semid.quantizers.lloyd import assign_within, check_capacity, run_balanced


@pytest.mark.parametrize("capacity", [20, 23, 200])
def test_no_code_takes_more_than_its_capacity_and_no_pair_would_rather_meet(rng, capacity):
    x, centroids = rng.normal(size=(200, 4)).astype(np.float32), rng.normal(size=(10, 4)).astype(np.float32)
    labels, cost = assign_within(x, centroids, capacity)
    assert np.bincount(labels, minlength=10).max() <= capacity
    distance = ((x[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)
    np.testing.assert_allclose(cost, distance[np.arange(200), labels], atol=1e-4)
    for code in range(10):
        members = cost[labels == code]
        limit = np.inf if len(members) < capacity else members.max()
        envious = (distance[:, code] < cost - 1e-4) & (distance[:, code] < limit - 1e-4)
        assert not envious.any()


def test_copies_fill_codes_in_order():
    labels, _ = assign_within(np.zeros((6, 2), np.float32), np.zeros((3, 2), np.float32), 2)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_balanced_steps_even_out_the_clusters(make_clustered):
    x = make_clustered(2000, 16)
    start = x[:20]
    balanced = run_balanced(x, start, capacity=110, max_iter=10)
    sizes = [
        np.bincount(((x[:, None] - c[None]) ** 2).sum(axis=2).argmin(axis=1), minlength=20) for c in (start, balanced)
    ]
    assert sizes[1].max() < sizes[0].max()


def test_a_quantizer_with_a_capacity_uses_its_codes_more_evenly(X):
    plain, balanced = (ResidualKMeans(2, 16, capacity=capacity).fit(X).encode(X) for capacity in (None, 125))
    for level in range(2):
        largest = [np.bincount(codes[:, level], minlength=16).max() for codes in (plain, balanced)]
        assert largest[1] < largest[0]


def test_capacities_that_do_not_hold_the_rows_are_refused():
    assert check_capacity(None, 100, (8,)) is None and check_capacity(13, 100, (8, 9)) == 13
    text = "capacity is too small: expected 13 or more for 100 training rows and 8 codes, got 12. Raise capacity or"
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        check_capacity(12, 100, (9, 8))
    with pytest.raises(InvalidTypeError, match=r"capacity is not an integer: expected 1 or more, got 1\.5"):
        check_capacity(1.5, 100, (8,))
