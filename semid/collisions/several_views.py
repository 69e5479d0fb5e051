"""Resolving the codes of a shared-specific quantizer: shared codes stay common, each view's IDs become unique."""

from typing import Any

import numpy as np

from semid.collisions.checks import (
    check_codes_of_views,
    check_fits,
    check_row_count,
    check_taken_of_views,
    check_weights,
)
from semid.collisions.counting import count_collisions
from semid.collisions.distortion import distortion_of_views
from semid.collisions.item_ids import check_item_ids
from semid.collisions.order import Items
from semid.collisions.proof import NO_DISTORTION_ADDED, NOTHING_PROVEN, proof_of
from semid.collisions.protocols import ResolvableViews, Views
from semid.collisions.result import Resolution
from semid.collisions.sinkhorn import balance_last_level
from semid.collisions.stages import place_in_stages, subtract_shared
from semid.collisions.suffix import append_suffix, suffix_size, suffixes
from semid.io.matrices import code_dtype

__all__ = ["resolve_several_views"]


def resolve_several_views(
    quantizer: ResolvableViews,
    X: Any,
    codes: Any,
    *,
    capacity: int,
    policy: str,
    taken: Any,
    weights: Any,
    duplicates: str = "separate",
    max_level_moved: int | None = None,
    item_ids: Any = None,
) -> Resolution:
    """Do what `semid.resolve` promises for a dict of views."""
    views, sizes = tuple(quantizer.views), tuple(quantizer.codebook_sizes)
    codes = quantizer.encode(X) if codes is None else check_codes_of_views(quantizer, codes)
    X = quantizer.standardize(X)
    n_items = len(X[views[0]])
    check_row_count(codes[views[0]], n_items)
    weights = check_weights(weights, n_items)
    item_ids = check_item_ids(item_ids, n_items)
    published = None
    if taken is not None:
        published = check_taken_of_views(quantizer, taken, capacity=capacity, suffix=policy == "suffix")
    before = distortion_of_views(quantizer, X, codes)
    if policy == "suffix":
        return resolve_by_suffix(codes, sizes, published, before)

    if policy == "sinkhorn":
        resolved = balance_views(quantizer, X, codes)
        return Resolution(
            codes=resolved,
            codebook_sizes=sizes,
            n_moved=count_moved(resolved, codes),
            distortion_before=before,
            distortion_after=distortion_of_views(quantizer, X, resolved),
            n_collisions_before=count_in_views(codes, sizes, capacity=1, taken=None),
            n_collisions_after=count_in_views(resolved, sizes, capacity=1, taken=None),
            **NOTHING_PROVEN._asdict(),
        )

    items = Items.of([np.ascontiguousarray(X[view]) for view in views], weights, item_ids, share=duplicates == "share")
    n_taken = 0 if published is None else len(published[views[0]])
    check_fits(items.n_places, n_taken, sizes, capacity=capacity)
    kept = {view: items.keep(X[view]) for view in views}
    placed, placements = place_in_stages(
        quantizer, kept, capacity=capacity, taken=published, weights=items.weights, order=items.order,
        n_moved=max_level_moved, codes={view: items.keep(rows) for view, rows in codes.items()},
    )  # fmt: skip
    resolved = {view: items.spread(placed[view].astype(code_dtype(max(sizes)))) for view in views}
    each = [{view: items.keep(rows[view]) for view in views} for rows in (codes, resolved)]
    return Resolution(
        codes=resolved,
        codebook_sizes=sizes,
        n_moved=count_moved(resolved, codes),
        distortion_before=before,
        distortion_after=distortion_of_views(quantizer, X, resolved),
        n_collisions_before=count_in_views(each[0], sizes, capacity=capacity, taken=published),
        n_collisions_after=count_in_views(each[1], sizes, capacity=capacity, taken=published),
        **proof_of(placements)._asdict(),
    )


def resolve_by_suffix(codes: Views, sizes: tuple[int, ...], published: Views | None, before: float) -> Resolution:
    """Append to each view the level that counts its collisions; the level is as large as the largest view needs."""
    taken = {view: None if published is None else published[view] for view in codes}
    columns = {view: suffixes(codes[view], sizes, taken[view]) for view in codes}
    used = [] if published is None else [rows[:, -1] for rows in published.values()]
    longer = (*sizes, suffix_size([*columns.values(), *used]))
    resolved = {view: append_suffix(codes[view], columns[view], longer) for view in codes}
    shorter = None if published is None else {view: rows[:, :-1] for view, rows in published.items()}
    return Resolution(
        codes=resolved,
        codebook_sizes=longer,
        n_moved=0,
        distortion_before=before,
        distortion_after=before,
        n_collisions_before=count_in_views(codes, sizes, capacity=1, taken=shorter),
        n_collisions_after=count_in_views(resolved, longer, capacity=1, taken=published),
        **NO_DISTORTION_ADDED._asdict(),
    )


def balance_views(quantizer: ResolvableViews, X: Views, codes: Views) -> dict[str, Any]:
    """Return the codes after GenSAR's repair of each view's last level; without specific levels, of the shared one."""
    n_shared = quantizer.n_shared
    shared = codes[quantizer.views[0]][:, :n_shared]
    if len(quantizer.codebook_sizes) == n_shared and quantizer.shared_quantizer is not None:
        joined = np.concatenate([X[view] for view in quantizer.views], axis=1)
        shared = balance_last_level(quantizer.shared_quantizer, joined, shared)
        return dict.fromkeys(quantizer.views, shared)
    residuals = subtract_shared(quantizer, X, shared)
    balanced = {}
    for view in quantizer.views:
        specific = quantizer.specific_quantizers[view]
        if specific is not None:
            own = balance_last_level(specific, residuals[view], codes[view][:, n_shared:], shared)
            balanced[view] = np.concatenate([shared, own], axis=1)
    return balanced


def count_moved(resolved: Views, codes: Views) -> int:
    """Return how many items have other codes in any view."""
    moved = [(resolved[view] != codes[view]).any(axis=1) for view in codes]
    return int(np.logical_or.reduce(moved).sum())


def count_in_views(codes: Views, sizes: tuple[int, ...], *, capacity: int, taken: Views | None) -> int:
    """Return the collisions of all views together."""
    return sum(
        count_collisions(rows, sizes, capacity=capacity, taken=None if taken is None else taken[view])
        for view, rows in codes.items()
    )
