"""What RQVAE is made of and what a fit leaves: values that need no torch."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid._arrays import Int64Array, Matrix
from semid.io.matrices import float_block
from semid.quantizers.networks.dense import Layer, apply_layers
from semid.quantizers.networks.options import CodeLearning
from semid.quantizers.views import Scaling

__all__ = ["Architecture", "Fitted", "encode_latents", "standardize"]

BLOCK_ROWS = 16_384


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


def standardize(matrix: npt.NDArray[np.number[Any]], rows: slice | Int64Array, scaling: Scaling) -> Matrix:
    """Return some rows of embeddings, centred and scaled, in a new array; an InvalidValueError if one is not finite."""
    block = float_block(matrix, rows) - scaling.mean
    block *= np.float32(scaling.factor)
    return block


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
    for first in range(0, len(matrix), BLOCK_ROWS):
        rows = slice(first, min(first + BLOCK_ROWS, len(matrix)))
        latents[rows] = apply_layers(standardize(matrix, rows, scaling), encoder)
    if unit_length:
        lengths = np.sqrt(np.einsum("nd,nd->n", latents, latents))
        latents *= (np.sqrt(latents.shape[1]) / np.maximum(lengths, 1e-12)).astype(np.float32)[:, None]
    return latents
