import numpy as np
import pytest
import torch
from oracles import rotation_gradient_oracle

from semid.quantizers.networks.modules import quantization_loss, rotate, straight_through


@pytest.fixture
def pair(rng):
    x, q = rng.normal(size=(2, 6, 5))
    return torch.tensor(x, requires_grad=True), torch.tensor(q, requires_grad=True)


@pytest.mark.parametrize("estimator", [straight_through, rotate])
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
    rotate(x, q).backward(torch.tensor(gradient))
    expected = rotation_gradient_oracle(x.detach().numpy(), q.detach().numpy(), gradient)
    np.testing.assert_allclose(x.grad, expected, atol=1e-12)
    assert q.grad is None


def test_a_gradient_along_the_centroid_returns_along_the_latent():
    x = torch.tensor([[3.0, 0.0]], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([[0.0, 6.0]], dtype=torch.float64)
    rotate(x, q).backward(torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    np.testing.assert_allclose(x.grad, [[2.0, 0.0]], atol=1e-15)


@pytest.mark.parametrize("x, q", [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0])], ids=["no latent", "no centroid"])
def test_rows_without_direction_pass_straight_through(x, q):
    x, q = torch.tensor([x], requires_grad=True), torch.tensor([q])
    out = rotate(x, q)
    out.backward(torch.tensor([[3.0, 4.0]]))
    np.testing.assert_array_equal(out.detach(), q)
    np.testing.assert_array_equal(x.grad, [[3.0, 4.0]])


def test_opposite_directions_stay_finite():
    x = torch.tensor([[1.0, 0.0]], requires_grad=True)
    rotate(x, torch.tensor([[-2.0, 0.0]])).backward(torch.tensor([[1.0, 1.0]]))
    np.testing.assert_allclose(x.grad, [[-2.0, 2.0]])


def test_quantization_loss_pulls_both_sides(pair):
    x, q = pair
    loss = quantization_loss(x, q, beta=0.25)
    loss.backward()
    difference = (x - q).detach().numpy()
    assert loss.item() == pytest.approx(1.25 * (difference**2).mean())
    np.testing.assert_allclose(x.grad, 0.25 * 2 * difference / difference.size)
    np.testing.assert_allclose(q.grad, -2 * difference / difference.size)
