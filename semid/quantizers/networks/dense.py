"""Trained layers in NumPy: who only encodes and decodes needs no torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from semid._arrays import Matrix
from semid._threads import for_each_block

__all__ = ["Layer", "apply_layers"]

BLOCK_ROWS = 1024


class Layer(NamedTuple):
    """``x @ weight + bias``."""

    weight: Matrix
    """Shape (dim in, dim out), dtype float32."""
    bias: Matrix
    """Shape (dim out,), dtype float32."""


def apply_layers(x: Matrix, layers: Sequence[Layer]) -> Matrix:
    """Return the output of a multilayer perceptron, with ``max(0, .)`` between its layers.

    The blocks of rows do not depend on the number of threads, so neither do the bits of the result.

    Parameters
    ----------
    x : ndarray of shape (n_rows, dim), dtype float32
    layers : sequence of Layer

    Returns
    -------
    out : ndarray of shape (n_rows, dim out of the last layer), dtype float32
    """
    out = np.empty((len(x), len(layers[-1].bias)), dtype=np.float32)

    def apply_block(first: int, last: int) -> None:
        block = x[first:last]
        for depth, (weight, bias) in enumerate(layers):
            block = block @ weight
            block += bias
            if depth < len(layers) - 1:
                np.maximum(block, 0.0, out=block)
        out[first:last] = block

    for_each_block(apply_block, len(x), BLOCK_ROWS)
    return out
