"""Networks as arrays: layers, and what a fitted one keeps; no torch here."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid._arrays import Matrix
from semid._threads import for_each_block
from semid.quantizers.learnt import Scaling, standardize
from semid.quantizers.networks.options import CodeLearning

__all__ = [
    "Architecture",
    "Fitted",
    "FittedViews",
    "Layer",
    "Layers",
    "ViewsArchitecture",
    "apply_layers",
    "encode_latents",
    "encode_views",
]


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


ENCODED_ROWS = 16_384


class Architecture(NamedTuple):
    """What a ResidualNetwork is made of, besides the dim of its input."""

    codebook_sizes: tuple[int, ...]
    hidden_sizes: tuple[int, ...]
    latent_dim: int
    learning: CodeLearning


class Fitted(NamedTuple):
    """What a quantizer keeps of a trained network."""

    scaling: Scaling
    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]
    codebooks: tuple[Matrix, ...]


def encode_latents(
    matrix: npt.NDArray[np.number[Any]], scaling: Scaling, encoder: tuple[Layer, ...], *, unit_length: bool
) -> Matrix:
    """Return the latents of embeddings, read by blocks.

    Parameters
    ----------
    matrix : ndarray of shape (n_items, dim), any real dtype
    scaling : Scaling
    encoder : tuple of Layer
    unit_length : bool
        Scale latents to the length ``sqrt(latent_dim)``, one per dimension.

    Returns
    -------
    latents : ndarray of shape (n_items, latent_dim), dtype float32
    """
    latents = np.empty((len(matrix), len(encoder[-1].bias)), np.float32)
    for first in range(0, len(matrix), ENCODED_ROWS):
        rows = slice(first, min(first + ENCODED_ROWS, len(matrix)))
        latents[rows] = apply_layers(standardize(matrix, rows, scaling), encoder)
    if unit_length:
        lengths = np.sqrt(np.einsum("nd,nd->n", latents, latents))
        latents *= (np.sqrt(latents.shape[1]) / np.maximum(lengths, 1e-12)).astype(np.float32)[:, None]
    return latents


Layers = tuple[Layer, ...]


class ViewsArchitecture(NamedTuple):
    """What a SharedSpecificNetwork is made of, besides the dims of its views."""

    latent_dims: dict[str, int]
    hidden_sizes: tuple[int, ...]
    shared_sizes: tuple[int, ...]
    specific_sizes: tuple[int, ...]


class FittedViews(NamedTuple):
    """What a quantizer keeps of a trained network; mappings are by view."""

    scaling: dict[str, Scaling]
    encoders: dict[str, Layers]
    decoders: dict[str, Layers]
    shared: tuple[Matrix, ...]
    """Codebooks of shape (codebook_size, sum of the latent dims)."""
    specific: dict[str, tuple[Matrix, ...]]
    """Codebooks of shape (codebook_size, latent dim of the view)."""


def encode_views(
    matrices: Mapping[str, npt.NDArray[np.number[Any]]],
    rows: slice,
    scaling: Mapping[str, Scaling],
    encoders: Mapping[str, Layers],
) -> dict[str, Matrix]:
    """Return the latents of some rows, per view of shape (n_rows, latent dim), dtype float32."""
    return {
        view: apply_layers(standardize(matrix, rows, scaling[view], view=view), encoders[view])
        for view, matrix in matrices.items()
    }
