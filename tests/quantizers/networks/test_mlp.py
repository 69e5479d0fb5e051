import copy

import pytest
import torch
from torch import nn

from semid.quantizers.networks import modules as module
from semid.quantizers.networks.modules import apply_mlp, mlp


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
