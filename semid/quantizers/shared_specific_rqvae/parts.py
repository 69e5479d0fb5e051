"""What a SharedSpecificRQVAE is made of, what a fit leaves, and the way to latents: values that need no torch."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid._arrays import Int64Array, Matrix
from semid.io.matrices import float_block
from semid.quantizers.networks.dense import Layer, apply_layers
from semid.quantizers.views import Scaling

__all__ = ["Architecture", "Fitted", "Layers", "encode_views", "standardize_rows"]

Layers = tuple[Layer, ...]


class Architecture(NamedTuple):
    """What a SharedSpecificNetwork is made of, besides the dims of its views."""

    latent_dims: dict[str, int]
    hidden_sizes: tuple[int, ...]
    shared_sizes: tuple[int, ...]
    specific_sizes: tuple[int, ...]


class Fitted(NamedTuple):
    """What a quantizer keeps of a trained network; mappings are by view."""

    scaling: dict[str, Scaling]
    encoders: dict[str, Layers]
    decoders: dict[str, Layers]
    shared: tuple[Matrix, ...]
    """Codebooks of shape (codebook_size, sum of the latent dims)."""
    specific: dict[str, tuple[Matrix, ...]]
    """Codebooks of shape (codebook_size, latent dim of the view)."""


def standardize_rows(
    matrix: npt.NDArray[np.number[Any]], rows: slice | Int64Array, scaling: Scaling, *, view: str
) -> Matrix:
    """Return some rows of a view, centred and scaled, in a new array."""
    block = float_block(matrix, rows, name=f"view {view!r}") - scaling.mean
    block *= np.float32(scaling.factor)
    return block


def encode_views(
    matrices: Mapping[str, npt.NDArray[np.number[Any]]],
    rows: slice,
    scaling: Mapping[str, Scaling],
    encoders: Mapping[str, Layers],
) -> dict[str, Matrix]:
    """Return the latents of some rows, per view of shape (n_rows, latent dim), dtype float32."""
    return {
        view: apply_layers(standardize_rows(matrix, rows, scaling[view], view=view), encoders[view])
        for view, matrix in matrices.items()
    }
