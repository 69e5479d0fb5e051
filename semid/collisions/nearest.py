"""Policy "nearest": for one quantizer, IDs of least total distance that nobody has to share."""

import math
from typing import NamedTuple

import numpy as np

from semid._arrays import Array, DoubleArray, Int64Array
from semid._checks import code_dtype
from semid.collisions.auction import auction_is_worthwhile, place_by_auction
from semid.collisions.candidates import Assignment, CandidateLists, PrefixRoom, assign
from semid.collisions.space import AdditiveSpace, ResolvableQuantizer, additive_space

__all__ = ["Placement", "place_nearest"]

# Every ID is a candidate of every item up to this many pairs; the result is then the optimum over all assignments.
COMPLETE_PAIRS = 2**20
# Candidates per item at first: as many as make this many entries, within bounds. A wider beam finds nearer IDs, which
# catalogues of some 10,000 items get for milliseconds.
ENTRIES, COUNT, MOST_COUNT = 2**21, 16, 64
# Lists that are too short grow by this factor, this many times at most.
WIDENING = 4
ROUNDS = 3
# Lists stop growing when no longer lists could save a larger share of the cost than this.
WORTHWHILE = 1e-3
# Entries of lists that grow in one round: about 16 bytes each while they are in use.
MAX_ENTRIES = 2**25


class Placement(NamedTuple):
    """Codes of all items, and what is known about their cost."""

    codes: Array  # (n_items, n_levels), unsigned integer dtype
    total: float  # weighted squared distance, summed over items
    gap: float  # how far the part of `total` of items on their candidates can be above the least one for these
    gap_over_all_ids: float  # how far `total` can be above the least one, if no ID outside a list is nearer than inside
    n_beyond_candidates: int  # items placed in the prefix tree, outside their lists
    n_widened: int  # items whose lists were too short at first, and grew


def place_nearest(
    quantizer: ResolvableQuantizer,
    X: Array,
    *,
    capacity: int,
    taken: Array | None = None,
    weights: DoubleArray | None = None,
    order: Int64Array | None = None,
    groups: Int64Array | None = None,
    taken_groups: Int64Array | None = None,
    n_groups: int = 1,
) -> Placement:
    """Choose one ID per item, at most `capacity` items on each, at the least total squared distance.

    Groups of items that need most of their IDs get them by an auction, all others from lists of candidates.

    Parameters
    ----------
    quantizer : ResolvableQuantizer
    X : ndarray of shape (n_items, dim), dtype float32
    capacity : int
    taken : ndarray of shape (n_taken, n_levels), unsigned integer dtype, optional
        Rows that already use one place of their ID.
    weights : ndarray of shape (n_items,), dtype float64, optional
    order : ndarray of shape (n_items,), dtype int64, optional
        Who comes first where costs tie. Default: as they come.
    groups, taken_groups : ndarray of shape (n_items,) and (n_taken,), dtype int64, optional
        Items of different groups never compete: an ID is meant within its group. There must be room in each group.
    n_groups : int

    Returns
    -------
    placement : Placement
    """
    sizes = tuple(quantizer.codebook_sizes)
    n_items, n_ids = len(X), math.prod(sizes)
    taken = np.empty((0, len(sizes)), dtype=np.uint8) if taken is None else taken
    order = np.arange(n_items) if order is None else order
    groups = np.zeros(n_items, dtype=np.int64) if groups is None else groups
    taken_groups = np.zeros(len(taken), dtype=np.int64) if taken_groups is None else taken_groups
    weights = np.ones(n_items) if weights is None else weights
    capacity = min(capacity, n_items + len(taken))  # more is never needed, and this fits int64
    problem = Problem(quantizer, X, capacity, taken, weights, order, groups, taken_groups, n_groups)

    counts = np.bincount(groups, minlength=n_groups)
    # Cut to what int64 holds: many levels have more IDs than that.
    places = min(capacity * n_ids, 2**62) - np.bincount(taken_groups, minlength=n_groups)
    scarce = [group for group in np.flatnonzero(counts).tolist()
              if auction_is_worthwhile(int(counts[group]), int(places[group]), n_ids)]  # fmt: skip
    if n_items * n_ids <= COMPLETE_PAIRS or not scarce:
        return place_on_lists(problem)
    space = additive_space(quantizer, X)
    if space is None:
        return place_on_lists(problem)
    in_auction = np.isin(groups, scarce)
    parts = [(members, place_group_by_auction(problem, space, members)) for members in split(groups, order, scarce)]
    others = np.flatnonzero(~in_auction)
    if len(others):
        parts.append((others, place_on_lists(problem.only(others))))
    codes = np.empty((n_items, len(sizes)), dtype=code_dtype(max(sizes)))
    for members, placement in parts:
        codes[members] = placement.codes
    placements = [placement for _, placement in parts]
    return Placement(
        codes=codes,
        total=sum(placement.total for placement in placements),
        gap=sum(placement.gap for placement in placements),
        gap_over_all_ids=sum(placement.gap_over_all_ids for placement in placements),
        n_beyond_candidates=sum(placement.n_beyond_candidates for placement in placements),
        n_widened=sum(placement.n_widened for placement in placements),
    )


class Problem(NamedTuple):
    """What `place_nearest` is asked, with nothing left out."""

    quantizer: ResolvableQuantizer
    X: Array
    capacity: int
    taken: Array
    weights: DoubleArray
    order: Int64Array
    groups: Int64Array
    taken_groups: Int64Array
    n_groups: int

    def only(self, items: Int64Array) -> "Problem":
        """Return the problem of some items, ascending; the IDs in use stay."""
        position = np.full(len(self.X), -1)
        position[items] = np.arange(len(items))
        order = position[self.order]
        return self._replace(
            X=self.X[items], weights=self.weights[items], order=order[order >= 0], groups=self.groups[items]
        )


def split(groups: Int64Array, order: Int64Array, wanted: list[int]) -> list[Int64Array]:
    """Return for each of the wanted groups its items, in order."""
    by_group = order[np.argsort(groups[order], kind="stable")]
    begins, ends = (np.searchsorted(groups[by_group], wanted, side=side) for side in ("left", "right"))
    return [by_group[begin:end] for begin, end in zip(begins, ends, strict=True)]


def place_group_by_auction(problem: Problem, space: AdditiveSpace, members: Int64Array) -> Placement:
    """Solve the problem of one group, whose items `members` lists in order."""
    group = problem.groups[members[0]]
    auctioned = place_by_auction(
        AdditiveSpace(space.Z[members], space.codebooks),
        capacity=problem.capacity,
        taken=problem.taken[problem.taken_groups == group],
        weights=problem.weights[members],
        order=np.arange(len(members)),
    )
    if auctioned is None:  # the lists end, whatever the items are like
        ascending = np.sort(members)
        placement = place_on_lists(problem.only(ascending))
        return placement._replace(codes=placement.codes[np.searchsorted(ascending, members)])
    codes, total, gap = auctioned
    return Placement(codes, total, gap, gap, 0, 0)


def place_on_lists(problem: Problem) -> Placement:
    """Choose IDs on candidate lists, exactly.

    An ID outside an item's list costs it at least as much as the last one inside. If that is less than what the item
    pays at the final prices, or if it has no place at all, its list was too short: such lists grow fourfold and the
    problem is solved anew. Who is still without an ID after three rounds takes a free one near in the prefix tree.
    """
    quantizer, X, capacity, taken, weights, order, groups, taken_groups, n_groups = problem
    sizes = tuple(quantizer.codebook_sizes)
    n_items, n_ids = len(X), math.prod(sizes)
    lists = CandidateLists(
        quantizer, X, groups, n_groups=n_groups, capacity=capacity, taken=taken, taken_groups=taken_groups
    )
    count = n_ids if n_items * n_ids <= COMPLETE_PAIRS else min(max(COUNT, min(ENTRIES // n_items, MOST_COUNT)), n_ids)
    lists.extend(order, count)
    solved = assign_lists(lists, weights, order)
    widened = np.zeros(n_items, dtype=np.bool_)
    for _ in range(ROUNDS):
        limit = lists.limit(weights)
        placed = solved.choice >= 0
        dearer = solved.dual > limit
        savings = (solved.dual[dearer] - limit[dearer]).sum()
        if placed.all() and savings <= WORTHWHILE * solved.total:
            break
        short = order[(dearer | (~placed & np.isfinite(limit)))[order]]
        longer = min(count * WIDENING, n_ids, MAX_ENTRIES // max(len(short), 1))
        if len(short) == 0 or longer < count:
            break
        count = longer
        widened[short] = True
        lists.extend(short, count)
        solved = assign_lists(lists, weights, order)

    total = solved.total
    codes = lists.codes_of(solved.choice)
    placed = solved.choice >= 0
    stuck = order[~placed[order]]
    if len(stuck):
        tree = PrefixRoom(quantizer.codebooks, capacity=capacity, n_groups=n_groups)
        tree.add(taken, taken_groups)
        tree.add(codes[placed], groups[placed])
        codes[stuck] = tree.place(lists.codes_of(lists.start[stuck]), groups[stuck])
        offsets = X[stuck].astype(np.float64) - quantizer.decode(codes[stuck])
        total += float(weights[stuck] @ np.einsum("ij,ij->i", offsets, offsets))
    bound = np.minimum(solved.dual, lists.limit(weights)).sum() + (np.maximum(lists.room, 0) * solved.price).sum()
    return Placement(
        codes=codes,
        total=total,
        gap=solved.gap,
        gap_over_all_ids=max(0.0, total - float(bound)),
        n_beyond_candidates=len(stuck),
        n_widened=int(widened.sum()),
    )


def assign_lists(lists: CandidateLists, weights: DoubleArray, order: Int64Array) -> Assignment:
    """Solve the assignment over the candidates listed so far."""
    return assign(lists.start, lists.stop, lists.column, lists.cost, lists.room, weights, order)
