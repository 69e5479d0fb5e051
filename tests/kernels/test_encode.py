import numpy as np
import pytest
from oracles import all_codes_oracle, cluster_means_oracle

from semid.kernels.encode import extend_beams, nearest, sum_clusters


def test_nearest_takes_the_lower_of_equal_codes():
    products = np.array([[0, 1, 1], [3, 0, 0]], np.float32)
    labels, cost = np.empty(2, np.int32), np.empty(2, np.float32)
    nearest(products, np.array([1, 0, 0], np.float32), labels, cost)
    assert labels.tolist() == [0, 1] and cost.tolist() == [1, 0]


def test_nearest_takes_code_0_where_all_overflow():
    labels, cost = np.empty(1, np.int32), np.empty(1, np.float32)
    nearest(np.full((1, 3), np.nan, np.float32), np.zeros(3, np.float32), labels, cost)
    assert labels.tolist() == [0]


def test_sum_clusters_adds_only_the_clusters_asked_for(rng):
    x, labels = rng.normal(size=(20, 3)).astype(np.float32), rng.integers(0, 4, 20)
    order, starts = np.argsort(labels, kind="stable"), np.concatenate(([0], np.cumsum(np.bincount(labels))))
    sums = np.full((4, 3), 7.0)
    sum_clusters(x, order, starts, 1, 3, sums)
    expected = cluster_means_oracle(x, labels, 4) * np.bincount(labels)[:, None]
    np.testing.assert_allclose(sums[1:3], expected[1:3], rtol=1e-12)
    assert (sums[[0, 3]] == 7.0).all()


def extend(x, codebook, kept, *, paths=None, cost=None, earlier=None):
    """Call the kernel for one level, with or without an earlier level's table."""
    n = len(x)
    paths = np.empty((n, 1, 0), np.int32) if paths is None else paths
    cost = np.zeros((n, 1), np.float32) if cost is None else cost
    cross = np.empty((0, len(codebook)), np.float32) if earlier is None else 2 * earlier @ codebook.T
    offsets = np.zeros(0 if earlier is None else 1, np.int64)
    products = np.ascontiguousarray(-2 * x @ codebook.T)[:, None]
    new_paths, new_cost = np.empty((n, kept, paths.shape[2] + 1), np.int32), np.empty((n, kept), np.float32)
    scratch = np.empty(len(codebook), np.float32), np.empty(kept, np.int64)
    extend_beams(products, 0, (codebook**2).sum(1), cross, offsets, paths, cost, *scratch, new_paths, new_cost)
    return new_paths, new_cost


@pytest.mark.parametrize("kept", [1, 2, 5, 12, 30])
def test_two_levels_kept_in_full_are_brute_force(rng, kept):
    x = rng.normal(size=(8, 4)).astype(np.float32)
    first, second = (rng.normal(size=(k, 4)).astype(np.float32) for k in (5, 6))
    paths, cost = extend(x, first, 5)
    paths, cost = extend(x, second, kept, paths=paths, cost=cost, earlier=first)
    rows, distance = all_codes_oracle(x, (first, second))
    best = np.argsort(distance, axis=1, kind="stable")[:, :kept]
    np.testing.assert_array_equal(paths, rows[best])
    np.testing.assert_allclose(
        cost + (x**2).sum(1)[:, None], np.take_along_axis(distance, best, 1), rtol=1e-5, atol=1e-5
    )


def test_equal_scores_go_to_the_better_beam_then_the_lower_code():
    x, zeros = np.ones((3, 2), np.float32), np.zeros((4, 2), np.float32)
    paths, cost = extend(x, zeros, 3)
    assert paths[:, :, 0].tolist() == [[0, 1, 2]] * 3
    paths, _ = extend(x, zeros, 7, paths=paths, cost=cost, earlier=zeros)
    assert paths[0].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1], [1, 2]]


def test_overflowing_scores_still_name_real_codes():
    x, huge = np.full((1, 2), 1.0, np.float32), np.full((3, 2), np.inf, np.float32)
    paths, cost = extend(x, huge, 3)
    assert sorted(paths[0, :, 0].tolist()) == [0, 1, 2] and np.isinf(cost).all()
