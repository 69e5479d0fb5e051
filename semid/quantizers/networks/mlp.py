"""The multilayer perceptron that encodes embeddings into latents and decodes latents."""

import itertools
from collections.abc import Sequence

from torch import nn

__all__ = ["mlp"]


def mlp(sizes: Sequence[int], *, dropout: float = 0.0) -> nn.Sequential:
    """Return linear layers with ReLU between them, and nothing after the last.

    Parameters
    ----------
    sizes : sequence of int
        Widths of input, hidden layers and output.
    dropout : float, default=0.0
        Probability of dropping an input of each layer while training.

    Returns
    -------
    network : torch.nn.Sequential
        Weights Xavier-normal, drawn from torch's global generator; biases zero.
    """
    layers: list[nn.Module] = []
    for size, next_size in itertools.pairwise(sizes):
        if layers:
            layers.append(nn.ReLU(inplace=True))
        if dropout:
            layers.append(nn.Dropout(dropout))
        linear = nn.Linear(size, next_size)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
    return nn.Sequential(*layers)
