"""Shared-specific IDs in two stages, and items whose first codes are kept: both places items inside prefixes."""

import math
from typing import Any, final

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, CodeArray, DoubleArray, Int64Array
from semid.collisions.keys import RowNumbers
from semid.collisions.nearest import Placement, place_nearest
from semid.collisions.space import ResolvableQuantizer, ResolvableViews, Views, additive_space, subtract_shared
from semid.errors import InvalidValueError
from semid.quantizers.search import build_tables, decode_codes, search_codes

__all__ = ["place_in_stages"]


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


@final
class LastLevels:
    """The quantizer of what the first codes leave over."""

    def __init__(self, codebooks: tuple[npt.NDArray[np.float32], ...]) -> None:
        self.codebooks = codebooks
        self.codebook_sizes = tuple(map(len, codebooks))
        self._tables = build_tables(codebooks)

    def candidates(self, X: Any, *, count: int, beam: int) -> tuple[CodeArray, npt.NDArray[np.float32]]:
        return search_codes(X, self._tables, beam=beam, count=count)

    def encode(self, X: Any) -> CodeArray:
        return self.candidates(X, count=1, beam=1)[0][:, 0]

    def decode(self, codes: Any) -> npt.NDArray[np.float32]:
        return decode_codes(codes, self.codebooks)


def place_in_last_levels(
    quantizer: ResolvableQuantizer,
    X: Array,
    codes: Array,
    n_moved: int,
    *,
    codebook_sizes: tuple[int, ...],
    capacity: int,
    taken: Array | None,
    weights: DoubleArray | None,
    order: Int64Array | None,
) -> Placement:
    """Do what `place_nearest` does, among the IDs that begin with an item's own codes of all but `n_moved` levels.

    Parameters
    ----------
    quantizer : ResolvableQuantizer
        Of the last levels. Unless all of these may change, its codes stand for sums of one centroid per level.
    X : ndarray of shape (n_items, dim), dtype float32
        What the levels before those leave over.
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype
        The whole IDs, from the first level on.
    n_moved : int
        How many levels, from the last, may change; no more than the quantizer has.
    codebook_sizes : tuple of int
        Of all levels of `codes`.
    taken : ndarray of shape (n_taken, n_levels), unsigned integer dtype, optional
    capacity, weights, order
        As for `place_nearest`.

    Returns
    -------
    placement : Placement
        With the whole IDs.

    Raises
    ------
    InvalidValueError
        If more items begin with some codes than there is room for behind them, or codes do not stand for sums.
    """
    n_levels = codes.shape[1]
    n_before, n_kept = n_levels - len(quantizer.codebook_sizes), n_levels - n_moved
    taken = np.empty((0, n_levels), codes.dtype) if taken is None else taken
    kept = codes[:, :n_kept]
    prefixes = RowNumbers(codebook_sizes[:n_kept])
    groups, taken_groups = prefixes.number(kept), prefixes.number(taken[:, :n_kept])
    room = capacity * math.prod(codebook_sizes[n_kept:])
    counts = np.bincount(groups) + np.bincount(taken_groups, minlength=len(prefixes))[: groups.max() + 1]
    fullest = int(counts.argmax())
    if counts[fullest] > room:
        first = kept[np.argmax(groups == fullest)]
        raise InvalidValueError(
            f"items do not fit behind their first codes {tuple(first.tolist())}: expected at most {room} "
            f"with the last {n_moved} levels free to change, got {counts[fullest]}, published ones included. "
            "Raise max_level_moved, or leave it out."
        )
    if n_kept > n_before:
        space = additive_space(quantizer, X)
        if space is None:
            raise InvalidValueError(
                f"max_level_moved is not for {type(quantizer).__name__}: expected IDs that stand for sums of "
                "centroids, got others. Leave it out."
            )
        rest = space.rest(codes[:, n_before:n_kept])
        quantizer, X = LastLevels(rest.codebooks), rest.Z
    placement = place_nearest(
        quantizer, X, capacity=capacity, taken=taken[:, n_kept:], weights=weights, order=order,
        groups=groups, taken_groups=taken_groups, n_groups=len(prefixes),
    )  # fmt: skip
    return placement._replace(codes=np.concatenate([kept, placement.codes], axis=1))
