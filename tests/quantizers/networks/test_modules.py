import copy

import numpy as np
import pytest
import torch
from oracles import moving_average_oracle, rotation_gradient_oracle, sinkhorn_oracle
from torch import nn

from semid.quantizers.networks import modules as module
from semid.quantizers.networks.modules import (
    apply_mlp,
    count_codes,
    mlp,
    move_codebook,
    nearest_codes,
    quantization_loss,
    revive_dead,
    rotate_gradient,
    sinkhorn_assign,
    squared_distances,
    straight_through,
)


def test_relu_lies_between_layers_and_nothing_after_the_last():
    torch.manual_seed(1)
    network = mlp((5, 4, 3, 2))
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [layer.weight.shape for layer in network[::2]] == [(4, 5), (3, 4), (2, 3)]
    out = network(torch.randn(200, 5))
    assert out.min() < 0 < out.max()


def test_biases_are_zero_and_weights_xavier_normal():
    torch.manual_seed(0)
    linear = mlp((300, 500))[0]
    assert not linear.bias.any()
    assert linear.weight.std().item() == pytest.approx((2 / 800) ** 0.5, rel=0.02)


def pass_of(network, x, **kwargs):
    """Return the output of a batch, the gradient at the batch and those at the parameters, in float64."""
    x = x.clone().requires_grad_()
    out = apply_mlp(network, x, **kwargs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    gradients = torch.autograd.grad((out * weights).sum(), [x, *network.parameters()])
    return [each.detach().double() for each in (out, *gradients)]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize("contiguous", [True, False], ids=["contiguous", "columns of a wider batch"])
def test_onednn_gives_values_and_gradients_of_float64(monkeypatch, contiguous):
    torch.manual_seed(0)
    network = mlp((20, 16, 7, 12))
    x = torch.randn(30, 20) if contiguous else torch.randn(30, 33)[:, 5:25]
    expected = pass_of(copy.deepcopy(network).double(), x.double())
    packed, pack = [], torch.Tensor.to_mkldnn
    monkeypatch.setattr(torch.Tensor, "to_mkldnn", lambda each: packed.append(each.shape) or pack(each))
    monkeypatch.setattr(module, "LEAST_PRODUCTS", 1)
    found = pass_of(network, x)
    assert packed == [(30, 20)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_small_batches_and_other_dtypes_are_not_packed(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "to_mkldnn", lambda each: pytest.fail("packed"))
    network = mlp((4, 5, 3))
    assert apply_mlp(network, torch.ones(2, 4)).dtype == torch.float32
    monkeypatch.setattr(module, "LEAST_PRODUCTS", 1)
    assert apply_mlp(network.double(), torch.ones(2, 4, dtype=torch.float64)).dtype == torch.float64


def test_bfloat16_is_inside_the_layers_only():
    torch.manual_seed(0)
    network = mlp((20, 16, 12))
    x = torch.randn(30, 20)
    found, exact = apply_mlp(network, x, low_precision=True), network(x)
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max().item() < 0.05 * exact.abs().max().item()


def test_nearest_codes_and_distances(rng):
    x, codebook = rng.normal(size=(40, 6)), rng.normal(size=(9, 6))
    expected = ((x[:, None] - codebook[None]) ** 2).sum(axis=2)
    codes, distance = nearest_codes(torch.tensor(x), torch.tensor(codebook))
    np.testing.assert_array_equal(codes, expected.argmin(axis=1))
    np.testing.assert_allclose(distance, expected.min(axis=1), atol=1e-12)
    np.testing.assert_allclose(squared_distances(torch.tensor(x), torch.tensor(codebook)), expected, atol=1e-12)


def test_ties_go_to_the_lower_code_and_distances_are_never_negative():
    codebook = torch.full((4, 3), 1e4)
    codes, distance = nearest_codes(codebook[:2] + 1e-4, codebook)
    assert codes.tolist() == [0, 0]
    assert (distance >= 0).all() and (squared_distances(codebook, codebook) >= 0).all()


def test_counts_cover_all_codes():
    assert count_codes(torch.tensor([2, 0, 2]), 4).tolist() == [1, 0, 2, 0]


def test_moving_averages(rng):
    codebook, sums = rng.normal(size=(2, 4, 3))
    sizes, x, codes = rng.uniform(1, 3, 4), rng.normal(size=(10, 3)), rng.integers(0, 3, 10)
    expected = moving_average_oracle(codebook, sizes, sums, x, codes, 0.9)
    found = [torch.tensor(array) for array in (codebook, sizes, sums)]
    move_codebook(*found, torch.tensor(x), torch.tensor(codes), decay=0.9)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-12)


def test_a_code_that_faded_away_keeps_its_place():
    codebook, sizes, sums = torch.ones(2, 2), torch.tensor([1e-6, 1.0]), torch.zeros(2, 2)
    move_codebook(codebook, sizes, sums, torch.ones(1, 2), torch.tensor([1]), decay=0.5)
    assert codebook[0].tolist() == [1.0, 1.0]


def test_dead_codes_move_to_badly_served_rows():
    codebook = torch.tensor([[0.0, 0.0], [5.0, 5.0], [7.0, 7.0]])
    pool = torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    revived = revive_dead(codebook, torch.tensor([4, 0, 0]), pool, torch.Generator().manual_seed(0))
    assert revived.tolist() == [1, 2]
    assert codebook[0].tolist() == [0.0, 0.0]
    assert sorted(codebook[1:].tolist()) == [[0.0, 9.0], [9.0, 0.0]]


def test_without_rows_to_serve_the_dead_stay():
    codebook = torch.tensor([[1.0], [5.0]])
    revived = revive_dead(codebook, torch.tensor([3, 0]), torch.ones(4, 1), torch.Generator())
    assert revived.tolist() == [] and codebook.tolist() == [[1.0], [5.0]]


def test_when_all_are_dead_all_move():
    codebook = torch.full((3, 1), 100.0)
    pool = torch.arange(5.0)[:, None]
    assert len(revive_dead(codebook, torch.zeros(3), pool, torch.Generator().manual_seed(1))) == 3
    assert len(set(codebook[:, 0].tolist())) == 3 and codebook.max() < 5


def test_the_living_stay_when_nobody_is_dead():
    codebook = torch.eye(2)
    assert not len(revive_dead(codebook, torch.ones(2), torch.eye(2), torch.Generator()))


@pytest.fixture
def pair(rng):
    x, q = rng.normal(size=(2, 6, 5))
    return torch.tensor(x, requires_grad=True), torch.tensor(q, requires_grad=True)


@pytest.mark.parametrize("estimator", [straight_through, rotate_gradient])
def test_the_value_is_the_centroid(pair, estimator):
    x, q = pair
    np.testing.assert_allclose(estimator(x, q).detach(), q.detach(), atol=1e-14)


def test_straight_through_hands_the_gradient_on(pair, rng):
    x, q = pair
    gradient = torch.tensor(rng.normal(size=(6, 5)))
    straight_through(x, q).backward(gradient)
    np.testing.assert_array_equal(x.grad, gradient)
    assert q.grad is None


def test_rotation_turns_the_gradient_back(pair, rng):
    x, q = pair
    gradient = rng.normal(size=(6, 5))
    rotate_gradient(x, q).backward(torch.tensor(gradient))
    expected = rotation_gradient_oracle(x.detach().numpy(), q.detach().numpy(), gradient)
    np.testing.assert_allclose(x.grad, expected, atol=1e-12)
    assert q.grad is None


def test_a_gradient_along_the_centroid_returns_along_the_latent():
    x = torch.tensor([[3.0, 0.0]], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([[0.0, 6.0]], dtype=torch.float64)
    rotate_gradient(x, q).backward(torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    np.testing.assert_allclose(x.grad, [[2.0, 0.0]], atol=1e-15)


@pytest.mark.parametrize("x, q", [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0])], ids=["no latent", "no centroid"])
def test_rows_without_direction_pass_straight_through(x, q):
    x, q = torch.tensor([x], requires_grad=True), torch.tensor([q])
    out = rotate_gradient(x, q)
    out.backward(torch.tensor([[3.0, 4.0]]))
    np.testing.assert_array_equal(out.detach(), q)
    np.testing.assert_array_equal(x.grad, [[3.0, 4.0]])


def test_opposite_directions_stay_finite():
    x = torch.tensor([[1.0, 0.0]], requires_grad=True)
    rotate_gradient(x, torch.tensor([[-2.0, 0.0]])).backward(torch.tensor([[1.0, 1.0]]))
    np.testing.assert_allclose(x.grad, [[-2.0, 2.0]])


def test_quantization_loss_pulls_both_sides(pair):
    x, q = pair
    loss = quantization_loss(x, q, beta=0.25)
    loss.backward()
    difference = (x - q).detach().numpy()
    assert loss.item() == pytest.approx(1.25 * (difference**2).mean())
    np.testing.assert_allclose(x.grad, 0.25 * 2 * difference / difference.size)
    np.testing.assert_allclose(q.grad, -2 * difference / difference.size)


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
