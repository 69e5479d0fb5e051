"""The arguments of `semid.resolve`, checked, with the message that a user reads."""

import math
from typing import Any

import numpy as np

from semid._arrays import Array, CodeArray, DoubleArray, Int64Array
from semid._checks import (
    as_array,
    as_ids,
    check_id_types,
    check_integer,
    check_shared_codes,
    check_view_names,
    ids_repeat,
)
from semid.collisions.keys import RowNumbers, count_collisions
from semid.collisions.space import ResolvableViews
from semid.errors import InvalidTypeError, InvalidValueError
from semid.io.matrices import check_codes

__all__ = [
    "check_codes_of_views",
    "check_fits",
    "check_id_capacity",
    "check_item_ids",
    "check_limit",
    "check_policy",
    "check_row_count",
    "check_taken",
    "check_taken_of_views",
    "check_weights",
]


POLICIES = ("nearest", "suffix", "sinkhorn")
DUPLICATES = ("separate", "share")
# Room for more items than there are, in 64 bits beside whatever is counted.
MOST_CAPACITY = 2**62


def check_policy(
    policy: str,
    *,
    capacity: int,
    weights: Any,
    taken: Any = None,
    duplicates: str = "separate",
    item_ids: Any = None,
    max_level_moved: Any = None,
) -> None:
    """Raise if the policy is unknown, or does not take an option that was given."""
    for name, value, known in (("policy", policy, POLICIES), ("duplicates", duplicates, DUPLICATES)):
        if not isinstance(value, str) or value not in known:
            expected = " or ".join(repr(one) for one in known)
            raise InvalidValueError(f"{name} is unknown: expected {expected}, got {value!r}. Choose one of these.")
    if policy == "nearest":
        return
    if capacity != 1:
        raise InvalidValueError(
            f"policy {policy!r} is for unique IDs: expected capacity 1, got {capacity}. "
            "Leave capacity out, or choose policy 'nearest'."
        )
    if weights is not None:
        raise InvalidValueError(
            f"policy {policy!r} does not use weights: expected none, got some. "
            "Leave weights out, or choose policy 'nearest'."
        )
    if duplicates != "separate":
        raise InvalidValueError(
            f"policy {policy!r} does not look for duplicates: expected duplicates='separate', got {duplicates!r}. "
            "Leave duplicates out, or choose policy 'nearest'."
        )
    if item_ids is not None:
        raise InvalidValueError(
            f"policy {policy!r} does not use item_ids: expected none, got some. "
            "Leave item_ids out, or choose policy 'nearest'."
        )
    if max_level_moved is not None:
        raise InvalidValueError(
            f"policy {policy!r} does not use max_level_moved: expected none, got {max_level_moved}. "
            "Leave it out, or choose policy 'nearest'."
        )
    if policy == "sinkhorn" and taken is not None:
        raise InvalidValueError(
            "policy 'sinkhorn' cannot avoid published IDs: expected no taken, got some. "
            "Leave taken out, or choose policy 'nearest'."
        )


def check_limit(max_level_moved: Any, *, n_levels: int) -> int | None:
    """Return how many levels, from the last, may change; None if all may."""
    if max_level_moved is None:
        return None
    n_moved = check_integer(max_level_moved, "max_level_moved", remedy="Pass how many levels may change.")
    if not 1 <= n_moved <= n_levels:
        raise InvalidValueError(
            f"max_level_moved is out of range: expected 1 .. {n_levels} levels, got {n_moved}. "
            "Leave it out to let all levels change."
        )
    return n_moved


def check_id_capacity(capacity: Any) -> int:
    """Return the capacity as an int that arrays can count with."""
    n_items = check_integer(capacity, "capacity", remedy="Pass how many items may share an ID.")
    if n_items < 1:
        raise InvalidValueError(f"capacity is too small: expected at least 1, got {n_items}. Pass 1 for unique IDs.")
    return min(n_items, MOST_CAPACITY)


def check_weights(weights: Any, n_items: int) -> DoubleArray | None:
    """Return weights as float64 of shape (n_items,), the largest one in 0.5 .. 1, or None.

    Only their ratios count, and so sums of costs are finite whatever the weights are. The factor is a power of two,
    which changes no digit.
    """
    if weights is None:
        return None
    given = as_array(weights, "weights")
    try:
        if given.dtype.kind not in "biufO":
            raise TypeError(f"dtype {given.dtype}")
        factors = given.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidTypeError(
            f"weights are not numbers: expected {n_items} numbers, got {error}. Pass one weight per item."
        ) from error
    if factors.shape != (n_items,):
        raise InvalidValueError(
            f"weights have a wrong shape: expected ({n_items},), got {factors.shape}. Pass one weight per item."
        )
    wrong = np.flatnonzero(~(np.isfinite(factors) & (factors >= 0)))
    if len(wrong):
        raise InvalidValueError(
            f"weights must be finite and not negative: expected at least 0, got {factors[wrong[0]]} for item "
            f"{wrong[0]}. Pass 0 for items that may move freely."
        )
    scaled: DoubleArray = np.ldexp(factors, -np.frexp(factors.max(initial=0.0))[1])
    return scaled


def check_row_count(codes: Array, n_items: int) -> None:
    """Raise unless there is one row of codes per item."""
    if len(codes) != n_items:
        raise InvalidValueError(
            f"codes and X disagree: expected {n_items} rows of codes, got {len(codes)}. Pass one row per item."
        )


def check_taken(taken: Any, codebook_sizes: tuple[int, ...], *, capacity: int, suffix: bool, name: str) -> CodeArray:
    """Return published codes, shape (n_taken, n_levels), or (n_taken, n_levels + 1) with a suffix.

    Raises
    ------
    InvalidValueError
        If more than `capacity` rows are the same ID, or a code is out of range.
    """
    if suffix:
        taken = as_array(taken, name)
        if taken.ndim != 2 or taken.shape[1] != len(codebook_sizes) + 1:
            raise InvalidValueError(
                f"{name} has a wrong shape: expected (n_taken, {len(codebook_sizes) + 1}), the quantizer's levels and "
                f"the suffix, got {taken.shape}. Pass the codes that policy 'suffix' returned."
            )
        largest = int(taken[:, -1].max(initial=0)) if taken.dtype.kind in "iu" else 0
        codebook_sizes = (*codebook_sizes, largest + 1)
    rows = check_codes(taken, codebook_sizes, name=name)
    if count_collisions(rows, codebook_sizes, capacity=capacity):
        numbers = RowNumbers(codebook_sizes).number(rows)
        counts = np.bincount(numbers)
        worst = int(np.argmax(counts[numbers]))
        raise InvalidValueError(
            f"{name} collides with itself: expected at most {capacity} per ID, got {counts[numbers[worst]]} times "
            f"{tuple(rows[worst].tolist())}. Raise capacity, or publish each ID once."
        )
    return rows


def check_fits(n_items: int, n_taken: int, codebook_sizes: tuple[int, ...], *, capacity: int) -> None:
    """Raise unless there is a place for every item."""
    n_free = capacity * math.prod(codebook_sizes) - n_taken
    if n_items > n_free:
        beside = f" beside {n_taken} taken" if n_taken else ""
        raise InvalidValueError(
            f"items do not fit: expected at most {n_free}{beside}, got {n_items}. Raise codebook_size or n_levels."
        )


def check_codes_of_views(quantizer: ResolvableViews, codes: Any) -> dict[str, Array]:
    """Return codes per view, of which the shared levels agree over the views."""
    check_view_names(codes, quantizer.views, name="codes")
    checked = {
        view: check_codes(codes[view], quantizer.codebook_sizes, name=f"codes[{view!r}]") for view in quantizer.views
    }
    check_shared_codes(checked, quantizer.n_shared, name="codes")
    return checked


def check_taken_of_views(quantizer: ResolvableViews, taken: Any, *, capacity: int, suffix: bool) -> dict[str, Array]:
    """Return published codes per view; row i of all views is one item, so the shared levels agree."""
    check_view_names(taken, quantizer.views, name="taken")
    sizes = tuple(quantizer.codebook_sizes)
    checked = {
        view: check_taken(taken[view], sizes, capacity=capacity, suffix=suffix, name=f"taken[{view!r}]")
        for view in quantizer.views
    }
    check_shared_codes(checked, quantizer.n_shared, name="taken")
    return checked


def check_item_ids(item_ids: Any, n_items: int) -> Int64Array | None:
    """Return the rank of each id among all of them, shape (n_items,); None without ids.

    Ids are read as `semid.SemanticIds` reads them: all int or all str, in whatever holds them, such as a column of a
    data frame or an array of objects.
    """
    if item_ids is None:
        return None
    ids = as_ids(item_ids)
    if len(ids) != n_items:
        raise InvalidValueError(
            f"item_ids have a wrong length: expected {n_items}, got {len(ids)}. Pass one id per item."
        )
    if isinstance(ids, list):
        check_id_types(ids)
        ids = as_sortable(ids)
    known, ranks, counts = np.unique(ids, return_inverse=True, return_counts=True)
    if len(known) < n_items:
        raise ids_repeat(known[counts > 1].tolist())
    return ranks.astype(np.int64)


def as_sortable(ids: list[Any]) -> Array:
    """Return ids of one type as an array that keeps them apart, of int or str where possible: objects sort slower."""
    array = np.array(ids)
    # Some int have more than 64 bits, and an array of str drops the NULs at their ends.
    exact = array.dtype.kind in "iu" or (array.dtype.kind == "U" and not any(one.endswith("\0") for one in ids))
    return array if exact else np.array(ids, dtype=object)
