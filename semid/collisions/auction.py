"""Assignment where most IDs are needed: an auction of all of them, with a bound on its excess cost."""

import math
from typing import NamedTuple

import numpy as np

from semid._arrays import Array, DoubleArray, Int64Array, Matrix
from semid._checks import code_dtype
from semid._threads import for_each_block
from semid.collisions.space import AdditiveSpace
from semid.kernels.auction import NOBODY, certify, hold_auction, read_choice, release
from semid.quantizers.search import decode_codes

__all__ = ["auction_is_worthwhile", "place_by_auction"]


# Share of the places that must be needed. Below it, lists of candidates are short and the exact assignment is fast.
LEAST_FILL = 0.5
# Pairs of item and ID up to which an auction takes no longer than about a minute. It reads all IDs some six times for
# each item: at 2^30 pairs, 32,768 items for 32^3 IDs, that takes 10 s, where exact assignment on lists of up to 1,024
# candidates took 171 s and could not prove to be within 61 % of the optimum.
MOST_PAIRS = 2**33
# The auction ends when it is proven to be this near to the least cost.
TOLERANCE = 1e-3
# Epsilon of the first phase, as a share of the mean cost of all IDs, and its factor from phase to phase. A coarser
# start than 1 % spends its time on prices that the next phase undoes: 2.6 instead of 1.9 s for 20,000 items.
EPSILON, SHRINK, N_PHASES = 0.01, 0.2, 12
LIST_LENGTH = 32
BLOCK = 1024
# Looks at an ID at most, for each pair of item and ID. Clusters of similar items took up to 48, random ones 1.4; where
# nearly all items are equal, as the placeholders of missing embeddings are, prices could rise by epsilon for hours.
LOOKS_PER_PAIR = 128
# Looks between two moments at which an interrupt is noticed: some tenths of a second.
LOOKS_AT_ONCE = 1 << 28


class Auctioned(NamedTuple):
    """Codes of all items, and what is known about their cost."""

    codes: Array  # (n_items, n_levels), unsigned integer dtype
    total: float
    gap: float  # how far `total` can be above the least one over all IDs


def auction_is_worthwhile(n_items: int, n_places: int, n_ids: int) -> bool:
    """Return whether items take so many of the free places that an auction of all IDs is the better way."""
    return n_items >= LEAST_FILL * n_places and n_items * n_ids <= MOST_PAIRS


def place_by_auction(
    space: AdditiveSpace,
    *,
    capacity: int,
    taken: Array,
    weights: DoubleArray,
    order: Int64Array,
) -> Auctioned | None:
    """Give each item one of all IDs, at most `capacity` items on each, within `TOLERANCE` of the least total cost.

    Returns None if the auction has not found a place for every item after so many looks that it may never do.

    Parameters
    ----------
    space : AdditiveSpace
    capacity : int
    taken : ndarray of shape (n_taken, n_levels), unsigned integer dtype
        Rows that use a place of their ID.
    weights : ndarray of shape (n_items,), dtype float64
    order : ndarray of shape (n_items,), dtype int64
        Items in the order in which they bid first.
    """
    sizes = tuple(len(book) for book in space.codebooks)
    n_items, n_ids = len(space.Z), math.prod(sizes)
    # A common offset would cost digits of every distance.
    shift = space.codebooks[0].mean(axis=0)
    books = (space.codebooks[0] - shift, *space.codebooks[1:])
    right = np.ascontiguousarray(-2.0 * np.concatenate(books).T)
    products = np.empty((n_items, sum(sizes)), np.float32)
    own_norms = np.empty(n_items, np.float32)

    def multiply(first: int, last: int) -> None:
        block = space.Z[first:last] - shift
        products[first:last] = block @ right
        own_norms[first:last] = np.einsum("nd,nd->n", block, block)

    for_each_block(multiply, n_items, BLOCK)
    ids = np.stack(np.unravel_index(np.arange(n_ids), sizes), axis=1).astype(code_dtype(max(sizes)))
    norms = np.empty(n_ids, np.float32)
    for first in range(0, n_ids, BLOCK):
        decoded = decode_codes(ids[first : first + BLOCK], books)
        norms[first : first + BLOCK] = np.einsum("nd,nd->n", decoded, decoded)
    used = np.bincount(np.ravel_multi_index(tuple(taken.T.astype(np.int64)), sizes), minlength=n_ids)
    places = np.concatenate([[0], np.cumsum(np.maximum(capacity - used, 0))])

    columns = np.split(products, np.cumsum(sizes)[:-1], axis=1)
    mean_costs = own_norms + norms.mean() + sum(column.mean(axis=1) for column in columns)
    # Weights of zero cost nothing wherever they go; then any positive epsilon will do.
    mean_cost = float(np.maximum(weights * mean_costs, 0.0).mean()) or 1.0
    found = run_auction(
        products, np.array(sizes), norms, own_norms, weights.astype(np.float32), order, places,
        list_length=min(LIST_LENGTH, n_ids), epsilon=EPSILON * mean_cost,
    )  # fmt: skip
    if found is None:
        return None
    choice, total, bound = found
    return Auctioned(codes=ids[choice], total=total, gap=max(0.0, total - bound))


def run_auction(
    products: Matrix,
    sizes: Int64Array,
    norms: Matrix,
    own_norms: Matrix,
    weights: Matrix,
    order: Int64Array,
    place_start: Int64Array,
    *,
    list_length: int,
    epsilon: float,
) -> tuple[Int64Array, float, float] | None:
    """Auction all places of all IDs among the items, in phases with less and less epsilon.

    Prices stay from phase to phase: the coarse phases find out what is scarce. The arrays are those of `hold_auction`.

    Returns
    -------
    choice : ndarray of shape (n_items,), dtype int64
        The ID of each item.
    total, bound : float
        The cost of this assignment, and a lower bound of the cost of every assignment.
    """
    n_items, n_ids, n_places = len(own_norms), len(norms), int(place_start[-1])
    place_price, place_holder = np.zeros(n_places), np.full(n_places, NOBODY)
    columns, costs = np.zeros((n_items, list_length), np.int32), np.zeros((n_items, list_length), np.float32)
    limit = np.full(n_items, -np.inf)  # nothing is listed yet
    root = np.where(np.diff(place_start) > 0, 0.0, np.inf)  # price of the cheapest place
    queue = order.copy()
    state = np.array([0, n_items, n_places - n_items])
    left = LOOKS_PER_PAIR * n_items * n_ids
    found = None
    for phase in range(N_PHASES):
        if phase > 0:
            state[0] = 0
            state[1:] = release(place_start, place_price, place_holder, root, columns, costs, limit, epsilon, queue)
        while state[1:].any():
            if left <= 0:
                return found
            part = min(left, LOOKS_AT_ONCE)
            left += hold_auction(
                products, sizes, norms, own_norms, weights, place_start, place_price, place_holder, root, columns,
                costs, limit, epsilon, queue, state, part,
            ) - part  # fmt: skip
        choice = np.full(n_items, -1, np.int64)
        read_choice(place_start, place_holder, choice)
        total, bound = certify(products, sizes, norms, own_norms, weights, place_price, root, choice)
        found = choice, total, bound
        if total - bound <= TOLERANCE * total:
            break
        epsilon *= SHRINK
    return found
