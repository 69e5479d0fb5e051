"""Resolving the codes of a quantizer of one view."""

from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import Array
from semid.collisions.checks import check_fits, check_row_count, check_taken, check_weights
from semid.collisions.counting import count_collisions
from semid.collisions.distortion import distortion
from semid.collisions.item_ids import check_item_ids
from semid.collisions.last_levels import place_in_last_levels
from semid.collisions.nearest import place_nearest
from semid.collisions.order import Items
from semid.collisions.proof import NO_DISTORTION_ADDED, NOTHING_PROVEN, proof_of
from semid.collisions.protocols import ResolvableQuantizer
from semid.collisions.result import Resolution
from semid.collisions.sinkhorn import balance_last_level
from semid.collisions.suffix import append_suffix, suffix_size, suffixes
from semid.io.matrices import check_codes, code_dtype

__all__ = ["resolve_one_view"]


def resolve_one_view(
    quantizer: ResolvableQuantizer,
    X: npt.NDArray[np.float32],
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
    """Do what `semid.resolve` promises for embeddings of shape (n_items, dim)."""
    sizes = tuple(quantizer.codebook_sizes)
    if codes is None:
        codes = quantizer.encode(X)
    else:
        codes = check_codes(codes, sizes)
        check_row_count(codes, len(X))
    weights = check_weights(weights, len(X))
    item_ids = check_item_ids(item_ids, len(X))
    published = None
    if taken is not None:
        published = check_taken(taken, sizes, capacity=capacity, suffix=policy == "suffix", name="taken")
    before = distortion(quantizer, X, codes)
    if policy == "suffix":
        return resolve_by_suffix(codes, sizes, published, before)

    if policy == "sinkhorn":
        resolved = balance_last_level(quantizer, X, codes)
        return Resolution(
            codes=resolved,
            codebook_sizes=sizes,
            n_moved=int((resolved != codes).any(axis=1).sum()),
            distortion_before=before,
            distortion_after=distortion(quantizer, X, resolved),
            n_collisions_before=count_collisions(codes, sizes),
            n_collisions_after=count_collisions(resolved, sizes),
            **NOTHING_PROVEN._asdict(),
        )

    items = Items.of([X], weights, item_ids, share=duplicates == "share")
    check_fits(items.n_places, 0 if published is None else len(published), sizes, capacity=capacity)
    options: dict[str, Any] = {
        "capacity": capacity, "taken": published, "weights": items.weights, "order": items.order
    }  # fmt: skip
    if max_level_moved is None:
        placement = place_nearest(quantizer, items.keep(X), **options)
    else:
        placement = place_in_last_levels(
            quantizer, items.keep(X), items.keep(codes), max_level_moved, codebook_sizes=sizes, **options
        )
    resolved = items.spread(placement.codes.astype(code_dtype(max(sizes))))
    return Resolution(
        codes=resolved,
        codebook_sizes=sizes,
        n_moved=int((resolved != codes).any(axis=1).sum()),
        distortion_before=before,
        distortion_after=distortion(quantizer, X, resolved),
        n_collisions_before=count_collisions(items.keep(codes), sizes, capacity=capacity, taken=published),
        n_collisions_after=count_collisions(items.keep(resolved), sizes, capacity=capacity, taken=published),
        **proof_of([placement])._asdict(),
    )


def resolve_by_suffix(codes: Array, sizes: tuple[int, ...], published: Array | None, before: float) -> Resolution:
    """Append the level that counts collisions; the quantizer's own codes stay."""
    suffix = suffixes(codes, sizes, published)
    longer = (*sizes, suffix_size([suffix] if published is None else [suffix, published[:, -1]]))
    resolved = append_suffix(codes, suffix, longer)
    return Resolution(
        codes=resolved,
        codebook_sizes=longer,
        n_moved=0,
        distortion_before=before,
        distortion_after=before,
        n_collisions_before=count_collisions(codes, sizes, taken=None if published is None else published[:, :-1]),
        n_collisions_after=count_collisions(resolved, longer, taken=published),
        **NO_DISTORTION_ADDED._asdict(),
    )
