import pytest
import torch
from torch import nn

from semid.quantizers.networks.mlp import mlp


def test_relu_lies_between_layers_and_nothing_after_the_last():
    torch.manual_seed(1)
    network = mlp((5, 4, 3, 2))
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [layer.weight.shape for layer in network[::2]] == [(4, 5), (3, 4), (2, 3)]
    out = network(torch.randn(200, 5))
    assert out.min() < 0 < out.max()


def test_dropout_comes_before_each_layer():
    kinds = [type(layer) for layer in mlp((5, 4, 2), dropout=0.1)]
    assert kinds == [nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]


def test_biases_are_zero_and_weights_xavier_normal():
    torch.manual_seed(0)
    linear = mlp((300, 500))[0]
    assert not linear.bias.any()
    assert linear.weight.std().item() == pytest.approx((2 / 800) ** 0.5, rel=0.02)
