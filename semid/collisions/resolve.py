"""`semid.resolve`: codes to semantic IDs, one per item; from the arguments to the certificate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import numpy as np

from semid._arrays import CodeArray
from semid._checks import check_quantizer, check_view_names, code_dtype, has_member
from semid.collisions.baselines import append_suffix, balance_last_level, suffix_size, suffixes
from semid.collisions.checks import (
    check_codes_of_views,
    check_fits,
    check_id_capacity,
    check_item_ids,
    check_limit,
    check_policy,
    check_row_count,
    check_taken,
    check_taken_of_views,
    check_weights,
)
from semid.collisions.keys import Items, count_collisions
from semid.collisions.nearest import Placement
from semid.collisions.space import (
    ResolvableQuantizer,
    ResolvableViews,
    Views,
    distortion_of_views,
    members_of,
    subtract_shared,
)
from semid.collisions.stages import place_in_stages
from semid.errors import InvalidTypeError
from semid.io.batches import check_embeddings
from semid.io.matrices import check_codes, drop_pages

__all__ = ["Resolution", "resolve"]


@final
@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Resolution:
    """Codes without collisions, and what they cost.

    Attributes
    ----------
    codes : ndarray of shape (n_items, n_levels), smallest unsigned dtype, or dict of such arrays, view -> codes
        Policy "suffix" appends one level.
    codebook_sizes : tuple of int
        Per level of `codes`.
    n_moved : int
        Items whose codes differ from the given ones, in any view; with policy "suffix" on the quantizer's own levels.
        May exceed `n_collisions_before`: policy "nearest" makes the distortion least, not the number of moves.
    distortion_before, distortion_after : float
        Mean squared distance between embedding and decoded codes, without weights. For several views: in the
        standardised space, summed over the views.
    optimality_gap : float
        Certified bound on ``(cost - least cost) / cost``, where cost is the weighted sum of squared distances of the
        items that got one of their candidates, and the least one is over all ways to give these items IDs among their
        candidates: 0 apart from rounding. For several views the largest one of the assignments solved one after the
        other. Policy "suffix" adds no distortion: 0. Policy "sinkhorn" proves nothing: nan.
    gap_over_all_ids : float
        The same for all items over all IDs there are, listed or not. It holds if the beam search missed no ID that is
        nearer to an item than the last one it listed; complete lists (up to 2^20 pairs of item and ID) miss none.
    n_collisions_before, n_collisions_after : int
        Items beyond the capacity of their ID: ``n_items - n_unique`` for capacity 1. Published IDs count. Summed over
        views.
    n_beyond_candidates : int
        Items whose candidates were all full, so that they got a free ID nearby in the prefix tree. Summed over views.
    n_widened : int
        Items whose first list was too short, and that got a longer one; equal items that share an ID count once. Summed
        over the assignments. 0 where an auction of all IDs takes the place of the lists.
    """

    codes: CodeArray | Mapping[str, CodeArray]
    codebook_sizes: tuple[int, ...]
    n_moved: int
    distortion_before: float
    distortion_after: float
    optimality_gap: float
    gap_over_all_ids: float
    n_collisions_before: int
    n_collisions_after: int
    n_beyond_candidates: int
    n_widened: int

    def __repr__(self) -> str:
        views = list(self.codes.values()) if isinstance(self.codes, Mapping) else [self.codes]
        sizes = " x ".join(str(size) for size in self.codebook_sizes)
        return (
            f"Resolution({len(views[0])} items, {sizes} codes: "
            f"{self.n_collisions_before} -> {self.n_collisions_after} collisions, {self.n_moved} moved, "
            f"distortion {self.distortion_before:.6g} -> {self.distortion_after:.6g}, "
            f"{self._proof()})"
        )

    def _proof(self) -> str:
        """Return in words how far the assignment can be from the best one; the gap is a share of its cost."""
        gap = self.gap_over_all_ids
        if math.isnan(gap):
            return "no bound on the distortion"
        if self.n_moved == 0:  # also policy "suffix", whose gap of 0 says nothing about the codes that it was given
            return "no distortion added"
        return "assignment optimal" if gap < 1e-9 else f"at most {100 * gap:.2g} % of the assignment's cost avoidable"


def resolve(
    quantizer: Any,
    X: Any,
    codes: Any = None,
    *,
    capacity: int = 1,
    policy: str = "nearest",
    taken: Any = None,
    weights: Any = None,
    duplicates: str = "separate",
    max_level_moved: int | None = None,
    item_ids: Any = None,
) -> Resolution:
    """Give every item an ID that no other item has, at the least distortion.

    Policy "nearest" minimises ``sum_i weights[i] * ||X[i] - decode(codes[i])||^2`` over all ways to give the items IDs
    with at most `capacity` items each. It is exact on the IDs that a beam search lists per item, by successive
    shortest augmenting paths: all IDs while there are at most 2^20 pairs of item and ID, else 16 to 64, and more for
    items whose list the prices of the solution show to be too short. Where more than half of all IDs are needed, an
    auction of all IDs takes its place, which stops when it is proven to be within 0.1 % of the least cost. The result
    has no collisions whenever the items fit at all. Items are taken in an order that follows from their embeddings, so
    that the order of rows decides nothing but which of several equal items gets which of their IDs, and with `item_ids`
    not even that.

    It is the distortion that is least, not the number of moves: more items move than collide. Items without a collision
    move, too, where that search finds a nearer ID than the greedy encode did, and where they make room for an item that
    would lose more by going elsewhere.

    Policy "suffix" appends a level that counts the items of a collision group, 0 for the first; TIGER
    (arXiv:2305.05065), section 3.1. It changes no code, and the IDs of a group have nothing to do with distance.

    Policy "sinkhorn" is the repair published with GenSAR (arXiv:2504.05730), to compare with: up to 20 times, the items
    of each collision group get new last codes by balanced optimal transport among themselves. It may leave collisions,
    which `n_collisions_after` counts, and equal items always collide; it proves nothing, so that the gaps are ``nan``.

    Parameters
    ----------
    quantizer : Quantizer or SharedSpecificKMeans
        Fitted.
    X : ndarray of shape (n_items, dim), dtype float32, or dict of view -> such an array
        Also whatever else the quantizer encodes: memory maps, paths, tensors.
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype, or dict of view -> such an array, optional
        What to count moves, distortion and collisions against. Policy "suffix" extends these codes. Default:
        ``quantizer.encode(X)``.
    capacity : int, default 1
        How many items may share an ID, for policy "nearest".
    policy : {"nearest", "suffix", "sinkhorn"}, default "nearest"
    taken : ndarray of shape (n_taken, n_levels), unsigned integer dtype, or dict of view -> such an array, optional
        Published IDs. Each uses one place of its ID, and never moves. For policy "suffix" with the suffix, so of shape
        (n_taken, n_levels + 1): new items count on behind the published ones of their group.
    weights : ndarray of shape (n_items,), dtype float64, optional
        Factors >= 0, of which only the ratios count, for policy "nearest": of two items that want one ID, the heavy one
        is more likely to get it.
    duplicates : {"separate", "share"}, default "separate"
        With "share", items whose embeddings are equal get one ID together, on purpose: equal once they are rounded to
        the float32 that quantizers work with, and with several views in all of these, as the quantizer standardises
        them. Rows of float64 that differ by less than float32 can tell, about one part in 10^7, are equal. They use one
        place, they count as one item wherever collisions are counted, and their weights add up. Duplicates of published
        items are not known as such: `taken` has no embeddings.
    max_level_moved : int, optional
        How many levels, from the last, may change, for policy "nearest": with 1, an item keeps all its `codes` but the
        last. Default: all may change.
    item_ids : sequence of n_items int or str, each once, optional
        Decide, for policy "nearest", which of several equal items gets which of their IDs. Read as `SemanticIds` reads
        them. Default: the order of rows.

    Returns
    -------
    resolution : Resolution
        With fields `codes`, `codebook_sizes`, `n_moved`, `distortion_before`, `distortion_after`, `optimality_gap`,
        `gap_over_all_ids`, `n_collisions_before`, `n_collisions_after`, `n_beyond_candidates` and `n_widened`.

    Raises
    ------
    InvalidValueError
        If there are more items than places (with `max_level_moved`: behind some first codes), an option has a wrong
        value or shape, codes are out of range, `taken` collides with itself, or views disagree in their items or their
        shared codes.
    InvalidTypeError
        If `quantizer` is not a quantizer, a dict is passed for one of one view or the other way round, or an option has
        a wrong type.

    Notes
    -----
    For a shared-specific quantizer the shared codes stay common to all views, and the IDs of every view are unique. A
    shared prefix with more items than the specific levels can tell apart sends items to other shared prefixes, in all
    views together and at the least total cost; then every view's specific codes are assigned inside the prefixes.

    Examples
    --------
    >>> import numpy as np, semid
    >>> X = np.random.default_rng(0).standard_normal((500, 8), dtype=np.float32)
    >>> quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=32).fit(X)
    >>> ids = semid.resolve(quantizer, X)
    >>> len(np.unique(ids.codes, axis=0)), ids.n_collisions_after
    (500, 0)
    """
    several = has_member(quantizer, "specific_quantizers")
    check_quantizer(quantizer, members_of(ResolvableViews if several else ResolvableQuantizer))
    capacity = check_id_capacity(capacity)
    check_policy(
        policy, capacity=capacity, weights=weights, taken=taken, duplicates=duplicates, item_ids=item_ids,
        max_level_moved=max_level_moved,
    )  # fmt: skip
    options: dict[str, Any] = {
        "capacity": capacity, "policy": policy, "weights": weights, "duplicates": duplicates,
        "max_level_moved": check_limit(max_level_moved, n_levels=len(quantizer.codebook_sizes)),
        "item_ids": item_ids,
    }  # fmt: skip
    if several:
        check_view_names(X, quantizer.views, name="X")
        codes = quantizer.encode(X) if codes is None else check_codes_of_views(quantizer, codes)
        X = quantizer.standardize(X)
        if taken is not None:
            taken = check_taken_of_views(quantizer, taken, capacity=capacity, suffix=policy == "suffix")
        return resolve_views(quantizer, X, codes, taken, **options)
    if isinstance(X, Mapping):
        raise InvalidTypeError(
            f"X has a wrong type: expected one array for {type(quantizer).__name__}, got a dict of views {list(X)}. "
            "Pass one view, or a quantizer of several views such as SharedSpecificKMeans."
        )
    X, sizes = check_embeddings(X), tuple(quantizer.codebook_sizes)
    drop_pages(X)
    codes = quantizer.encode(X) if codes is None else check_codes(codes, sizes)
    if taken is not None:
        taken = {"": check_taken(taken, sizes, capacity=capacity, suffix=policy == "suffix", name="taken")}
    resolution = resolve_views(OneView(quantizer), {"": X}, {"": codes}, taken, **options)
    assert isinstance(resolution.codes, Mapping)
    return replace(resolution, codes=resolution.codes[""])


def resolve_views(
    quantizer: ResolvableViews,
    X: Views,
    codes: Views,
    published: Views | None,
    *,
    capacity: int,
    policy: str,
    weights: Any,
    duplicates: str,
    max_level_moved: int | None,
    item_ids: Any,
) -> Resolution:
    """Resolve codes of standardised views; `codes` and the `published` ones are checked."""
    views, sizes = tuple(quantizer.views), tuple(quantizer.codebook_sizes)
    n_items = len(X[views[0]])
    check_row_count(codes[views[0]], n_items)
    weights = check_weights(weights, n_items)
    item_ids = check_item_ids(item_ids, n_items)
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


class OneView(NamedTuple):
    """A quantizer of one view as one of several views, of which nothing is shared."""

    quantizer: ResolvableQuantizer
    views: tuple[str, ...] = ("",)
    n_shared: int = 0
    shared_quantizer: None = None

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        return tuple(self.quantizer.codebook_sizes)

    @property
    def specific_quantizers(self) -> Mapping[str, ResolvableQuantizer]:
        """All levels belong to the view."""
        return {"": self.quantizer}

    def standardize(self, views: Any) -> Views:
        """Return the view as it is."""
        return views  # type: ignore[no-any-return]

    def encode(self, views: Any) -> Views:
        """Return the codes of the view."""
        return {"": self.quantizer.encode(views[""])}


class Proof(NamedTuple):
    """The fields of a `Resolution` that tell how good the assignment is."""

    optimality_gap: float
    gap_over_all_ids: float
    n_beyond_candidates: int = 0
    n_widened: int = 0


NO_DISTORTION_ADDED = Proof(0.0, 0.0)
NOTHING_PROVEN = Proof(math.nan, math.nan)


def proof_of(placements: Sequence[Placement]) -> Proof:
    """Return what assignments that were solved one after the other prove together: the largest gap of them holds."""
    return Proof(
        optimality_gap=max(share_of_cost(one.gap, one.total) for one in placements),
        gap_over_all_ids=max(share_of_cost(one.gap_over_all_ids, one.total) for one in placements),
        n_beyond_candidates=sum(one.n_beyond_candidates for one in placements),
        n_widened=sum(one.n_widened for one in placements),
    )


def share_of_cost(gap: float, total: float) -> float:
    """Return the gap as a share of the total cost; 0 where nothing costs anything."""
    return gap / total if total > 0 else 0.0
