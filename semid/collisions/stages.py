"""Shared-specific IDs in two stages: items to shared prefixes, then each view's specific codes inside each prefix."""

import math
from typing import Any

import numpy as np

from semid._arrays import Array, DoubleArray, Int64Array
from semid.collisions.last_levels import place_in_last_levels
from semid.collisions.nearest import Placement
from semid.collisions.protocols import ResolvableViews, Views

__all__ = ["place_in_stages", "subtract_shared"]


def place_in_stages(
    quantizer: ResolvableViews,
    X: Views,
    *,
    capacity: int,
    taken: Views | None,
    weights: DoubleArray | None,
    order: Int64Array | None = None,
    codes: Views,
    n_moved: int | None = None,
) -> tuple[dict[str, Array], list[Placement]]:
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
    codes : mapping of view to ndarray of shape (n_items, n_levels), unsigned integer dtype
        What `n_moved` limits changes of.
    n_moved : int, optional
        How many levels, from the last, may change. Default: all.
    """
    views, n_shared, sizes = tuple(quantizer.views), quantizer.n_shared, tuple(quantizer.codebook_sizes)
    n_specific = len(sizes) - n_shared
    n_moved = len(sizes) if n_moved is None else n_moved
    options: dict[str, Any] = {"weights": weights, "order": order}
    placements = []
    shared = codes[views[0]][:, :n_shared]
    if quantizer.shared_quantizer is not None and n_moved > n_specific:
        placement = place_in_last_levels(
            quantizer.shared_quantizer,
            np.concatenate([X[view] for view in views], axis=1),
            shared,
            n_moved - n_specific,
            codebook_sizes=sizes[:n_shared],
            capacity=capacity * math.prod(sizes[n_shared:]),
            taken=None if taken is None else taken[views[0]][:, :n_shared],
            **options,
        )
        placements.append(placement)
        shared = placement.codes
    residuals = subtract_shared(quantizer, X, shared)
    placed = {}
    for view in views:
        specific = quantizer.specific_quantizers[view] if n_specific else None
        if specific is None:
            placed[view] = shared
            continue
        placement = place_in_last_levels(
            specific,
            residuals[view],
            np.concatenate([shared, codes[view][:, n_shared:]], axis=1),
            min(n_moved, n_specific),
            codebook_sizes=sizes,
            capacity=capacity,
            taken=None if taken is None else taken[view],
            **options,
        )
        placements.append(placement)
        placed[view] = placement.codes
    return placed, placements


def subtract_shared(quantizer: ResolvableViews, X: Views, shared: Array) -> Views:
    """Return what the shared levels leave of each view, dtype float32."""
    if quantizer.shared_quantizer is None:
        return X
    decoded = quantizer.shared_quantizer.decode(shared)
    ends = np.cumsum([X[view].shape[1] for view in quantizer.views])
    parts = np.split(decoded, ends[:-1], axis=1)
    return {view: np.ascontiguousarray(X[view] - part) for view, part in zip(quantizer.views, parts, strict=True)}
