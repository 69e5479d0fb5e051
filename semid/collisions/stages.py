"""Shared-specific IDs in two stages: items to shared prefixes, then each view's specific codes inside each prefix."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.collisions.keys import IntArray, RowNumbers
from semid.collisions.nearest import Placement, place_nearest
from semid.collisions.protocols import ResolvableViews, Views

__all__ = ["distortion_of_views", "place_in_stages", "subtract_shared"]

# Rows decoded at a time when distortion is measured: at most 128 MiB of float64 up to 2,048 dimensions.
BLOCK = 8192


def place_in_stages(
    quantizer: ResolvableViews,
    X: Views,
    *,
    capacity: int,
    taken: Views | None,
    weights: npt.NDArray[np.float64] | None,
    order: IntArray | None = None,
) -> tuple[dict[str, npt.NDArray[Any]], list[Placement]]:
    """Return the codes of each view, and the assignments solved.

    Stage 1 gives every item a shared prefix, with at most as many items on a prefix as the specific levels can tell
    apart: who must leave a full prefix leaves it in all views together, at the least total cost. Stage 2 then has room
    inside each prefix, and gives each view's specific codes for all prefixes in one assignment. Each stage is optimal
    on its candidates; together they need not be, as the first stage does not look at the second.

    Parameters
    ----------
    quantizer : ResolvableViews
    X : mapping of view to ndarray of shape (n_items, dim of view), dtype float32
        Standardised.
    capacity : int
    taken : mapping of view to ndarray of shape (n_taken, n_levels), unsigned integer dtype, optional
        Row i of all views is one item: the shared codes agree.
    weights : ndarray of shape (n_items,), dtype float64, optional
    order : ndarray of shape (n_items,), dtype int64, optional
        Who comes first where costs tie.
    """
    views, n_shared = tuple(quantizer.views), quantizer.n_shared
    shared_sizes, specific_sizes = quantizer.codebook_sizes[:n_shared], quantizer.codebook_sizes[n_shared:]
    taken_shared = None if taken is None else taken[views[0]][:, :n_shared]
    placements = []
    shared = np.empty((len(X[views[0]]), 0), dtype=np.uint8)
    if quantizer.shared_quantizer is not None:
        placements.append(
            place_nearest(
                quantizer.shared_quantizer,
                np.concatenate([X[view] for view in views], axis=1),
                capacity=capacity * math.prod(specific_sizes),
                taken=taken_shared,
                weights=weights,
                order=order,
            )
        )
        shared = placements[0].codes
    numbers = RowNumbers(shared_sizes)
    taken_groups = None if taken_shared is None else numbers.number(taken_shared)
    groups = numbers.number(shared)
    residuals = subtract_shared(quantizer, X, shared)
    codes = {}
    for view in views:
        specific = quantizer.specific_quantizers[view] if specific_sizes else None
        if specific is None:
            codes[view] = shared
            continue
        placement = place_nearest(
            specific,
            residuals[view],
            capacity=capacity,
            taken=None if taken is None else taken[view][:, n_shared:],
            weights=weights,
            order=order,
            groups=groups,
            taken_groups=taken_groups,
            n_groups=len(numbers),
        )
        placements.append(placement)
        codes[view] = np.concatenate([shared, placement.codes], axis=1)
    return codes, placements


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


def subtract_shared(quantizer: ResolvableViews, X: Views, shared: npt.NDArray[Any]) -> Views:
    """Return what the shared levels leave of each view, dtype float32."""
    if quantizer.shared_quantizer is None:
        return X
    decoded = quantizer.shared_quantizer.decode(shared)
    ends = np.cumsum([X[view].shape[1] for view in quantizer.views])
    parts = np.split(decoded, ends[:-1], axis=1)
    return {view: np.ascontiguousarray(X[view] - part) for view, part in zip(quantizer.views, parts, strict=True)}
