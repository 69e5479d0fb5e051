"""Distortion of codes, block by block and summed in float64."""

import numpy as np

from semid._arrays import Array
from semid.collisions.protocols import ResolvableQuantizer, ResolvableViews, Views
from semid.collisions.stages import subtract_shared
from semid.io.matrices import drop_pages

__all__ = ["distortion", "distortion_of_views"]

# Rows decoded at a time: at most 128 MiB of float64 up to 2,048 dimensions.
BLOCK = 8192


def distortion(quantizer: ResolvableQuantizer, X: Array, codes: Array) -> float:
    """Return the mean squared distance between embeddings and decoded codes."""
    total = 0.0
    for begin in range(0, len(X), BLOCK):
        block = slice(begin, begin + BLOCK)
        offsets = X[block].astype(np.float64) - quantizer.decode(codes[block])
        total += float(np.einsum("ij,ij->", offsets, offsets))
        drop_pages(X)
    return total / len(X)


def distortion_of_views(quantizer: ResolvableViews, X: Views, codes: Views) -> float:
    """Return the mean squared distance to the decoded codes in the standardised space, summed over views."""
    views, n_shared = tuple(quantizer.views), quantizer.n_shared
    n_items = len(X[views[0]])
    total = 0.0
    for begin in range(0, n_items, BLOCK):
        block = slice(begin, begin + BLOCK)
        part = {view: X[view][block] for view in views}
        residuals = subtract_shared(quantizer, part, codes[views[0]][block, :n_shared])
        for view in views:
            offsets = residuals[view].astype(np.float64)
            specific = quantizer.specific_quantizers[view] if len(quantizer.codebook_sizes) > n_shared else None
            if specific is not None:
                offsets -= specific.decode(codes[view][block, n_shared:])
            total += float(np.einsum("ij,ij->", offsets, offsets))
    return total / n_items
