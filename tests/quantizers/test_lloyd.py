import re

import numpy as np
import pytest
from oracles import cluster_means_oracle

from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers import ResidualKMeans
from semid.quantizers.lloyd import (
    assign_clusters,
    assign_within,
    check_code_capacity,
    cluster_means,
    run_balanced,
    run_lloyd,
    run_lloyd_by_halves,
    worst_served,
)


def assign(x, centroids):
    return assign_clusters(x, centroids, np.einsum("nd,nd->n", x, x))


def test_assignment_is_the_nearest_centroid(rng):
    x, centroids = (rng.normal(size=(n, 7)).astype(np.float32) for n in (3000, 11))
    labels, cost = assign(x, centroids)
    distance = ((x[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(labels, distance.argmin(axis=1))
    np.testing.assert_allclose(cost, distance.min(axis=1), rtol=1e-4, atol=1e-5)


def test_costs_are_never_negative(rng):
    x = rng.normal(size=(50, 5)).astype(np.float32)
    _, cost = assign(x, x)
    assert (cost >= 0).all() and cost.max() < 1e-5


def test_means_and_sizes_with_empty_clusters(rng):
    x, labels = rng.normal(size=(100, 3)).astype(np.float32), rng.choice([0, 2, 5, 40], 100).astype(np.int32)
    means, sizes = cluster_means(x, labels, 42)
    np.testing.assert_allclose(means, cluster_means_oracle(x, labels, 42), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(sizes, np.bincount(labels, minlength=42))


def test_a_step_that_may_go_on_never_raises_the_distortion(rng):
    x = rng.normal(size=(400, 6)).astype(np.float32)
    before = np.inf
    for max_iter in range(6):
        centroids, labels, _ = run_lloyd(x, x[:9], max_iter=max_iter, tol=0.0)
        distortion = ((x - centroids[labels]) ** 2).sum(axis=1).mean()
        assert distortion <= before * (1 + 1e-6)
        before = distortion


def test_labels_belong_to_the_centroids_that_come_with_them(rng):
    x = rng.normal(size=(400, 6)).astype(np.float32)
    for max_iter in (0, 1, 50):
        centroids, labels, n_iter = run_lloyd(x, x[:9], max_iter=max_iter)
        assert n_iter == max_iter if max_iter < 50 else 1 < n_iter < 50
        np.testing.assert_array_equal(labels, assign(x, centroids)[0])


def test_it_agrees_with_scikit_learn_from_the_same_start(rng):
    from sklearn.cluster import KMeans

    x = rng.normal(size=(500, 4)).astype(np.float32)
    reference = KMeans(8, init=x[:8], n_init=1, max_iter=200, tol=0.0).fit(x)
    centroids, labels, _ = run_lloyd(x, x[:8], max_iter=200, tol=0.0)
    distortion = ((x - centroids[labels]) ** 2).sum()
    assert distortion == pytest.approx(reference.inertia_, rel=1e-3)


def test_empty_clusters_move_to_the_worst_served_rows():
    x = np.repeat(np.array([[0.0], [1.0], [10.0], [20.0]], np.float32), 5, axis=0)
    far = np.array([[0.5], [100.0], [200.0], [300.0]], np.float32)
    centroids, labels, _ = run_lloyd(x, far, max_iter=20)
    assert sorted(centroids[:, 0].tolist()) == [0.0, 1.0, 10.0, 20.0]
    assert np.bincount(labels).tolist() == [5, 5, 5, 5]


def test_more_clusters_than_distinct_rows_end_without_nan():
    x = np.repeat(np.array([[-1.0, 0.0], [1.0, 0.0]], np.float32), 4, axis=0)
    centroids, labels, _ = run_lloyd(x, x[:5], max_iter=10)
    assert np.isfinite(centroids).all()
    np.testing.assert_array_equal(centroids[labels], x)


def test_worst_served_rows_differ_and_are_not_served_already():
    x = np.array([[0.0], [3.0], [3.0], [2.0], [1.0]], np.float32)
    cost = x[:, 0] ** 2
    assert worst_served(x, cost, 2).tolist() == [1, 3]
    assert worst_served(x, cost, 5).tolist() == [1, 3, 4]
    assert worst_served(x, np.zeros(5, np.float32), 2).tolist() == []


def test_steps_on_half_the_rows_end_where_steps_on_all_do(rng, monkeypatch):
    centres = 20 * rng.normal(size=(8, 4))
    x = (centres[rng.integers(0, 8, 4000)] + rng.normal(size=(4000, 4))).astype(np.float32)
    begin = x[:8].copy()
    expected, expected_labels, _ = run_lloyd(x, begin, max_iter=25)
    few, _, _ = run_lloyd_by_halves(x, begin, max_iter=25)
    np.testing.assert_array_equal(few, expected)  # as long as rows are few
    monkeypatch.setattr("semid.quantizers.lloyd.MANY_ROWS", 1000)
    centroids, labels, n_iter = run_lloyd_by_halves(x, begin, max_iter=25)
    error, least = (((x - c[at]) ** 2).sum() for c, at in ((centroids, labels), (expected, expected_labels)))
    assert error <= 1.001 * least and 0 < n_iter <= 25
    np.testing.assert_array_equal(labels, assign(x, centroids)[0])
    one, _, n_one = run_lloyd_by_halves(x, begin, max_iter=3)  # no steps to spare for half the rows
    np.testing.assert_array_equal(one, run_lloyd(x, begin, max_iter=3)[0])
    assert n_one <= 3


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
    assert check_code_capacity(None, 100, (8,)) is None and check_code_capacity(13, 100, (8, 9)) == 13
    text = "capacity is too small: expected 13 or more for 100 training rows and 8 codes, got 12. Raise capacity or"
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        check_code_capacity(12, 100, (9, 8))
    with pytest.raises(InvalidTypeError, match=r"capacity is not an integer: expected 1 or more, got 1\.5"):
        check_code_capacity(1.5, 100, (8,))
