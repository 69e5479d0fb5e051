import numpy as np
import pytest
import torch
from oracles import sinkhorn_oracle

from semid.quantizers.networks.modules import sinkhorn_assign


def distances(rng, n_items, n_codes, *, spread=0.3, used=None):
    """Squared distances of points around the first `used` of the centroids."""
    centroids = 0.3 * rng.normal(size=(n_codes, 8))
    points = centroids[rng.integers(0, used or n_codes, n_items)] + spread * rng.normal(size=(n_items, 8))
    return ((points[:, None] - centroids[None]) ** 2).sum(axis=2)


@pytest.mark.parametrize("epsilon", [0.003, 0.05, 1.0])
@pytest.mark.parametrize("n_iterations", [1, 2, 50])
def test_codes_are_those_of_float64(rng, epsilon, n_iterations):
    distance = distances(rng, 300, 32)
    codes = sinkhorn_assign(torch.tensor(distance), epsilon=epsilon, n_iterations=n_iterations)
    assert codes.dtype == torch.int64
    assert (codes.numpy() == sinkhorn_oracle(distance, epsilon, n_iterations)).mean() > 0.995


def test_codes_that_are_far_from_all_rows_are_given_out(rng):
    """The plain scaling in float32 divides by zero here: exp(-distance / epsilon) is 0 in whole columns."""
    distance = distances(rng, 256, 32, spread=0.02, used=3)
    codes = sinkhorn_assign(torch.tensor(distance), epsilon=0.003, n_iterations=50)
    assert (codes.numpy() == sinkhorn_oracle(distance, 0.003, 50)).mean() > 0.95
    assert len(codes.unique()) == 32 > len(np.unique(distance.argmin(axis=1)))


def test_equal_distances_end_without_an_error():
    codes = sinkhorn_assign(torch.ones(5, 3), epsilon=0.003, n_iterations=10)
    assert codes.tolist() == [0] * 5


def test_no_gradient_is_recorded():
    distance = torch.rand(6, 3, requires_grad=True)
    assert not sinkhorn_assign(distance, epsilon=0.1, n_iterations=3).requires_grad
