"""Kernels of the collision resolver where IDs are scarce: items bid for places among all IDs there are."""

import heapq

import numpy as np

from semid._arrays import FloatArray, IntArray
from semid.kernels.compile import njit

__all__ = ["EMPTY", "NOBODY", "certify", "hold_auction", "read_choice", "release"]


# Holders that are no items: a place without anybody, and one that stays empty in the end.
NOBODY, EMPTY = -1, -2


@njit
def value_row(
    products: FloatArray,
    sizes: IntArray,
    norms: FloatArray,
    own_norm: np.float32,
    weight: np.float32,
    price: FloatArray,
    prefix: FloatArray,
    values: FloatArray,
) -> None:
    """Write what one item pays on each ID: ``weight * (own_norm + norms + products of its codes) + price``.

    Parameters
    ----------
    products : ndarray of shape (sum of codebook sizes,), dtype float32
        ``-2 <x, c>``, level by level.
    sizes : ndarray of shape (n_levels,), dtype int64
    norms, price, values : ndarray of shape (n_ids,), dtype float32
        IDs in lexicographic order. ``norms`` is ``|decode(id)|^2``, `values` is written.
    prefix : ndarray of shape (2, n_ids / last size), dtype float32
        Scratch.
    """
    n_prefixes, first = 1, 0
    sums, longer = prefix[0], prefix[1]
    sums[0] = own_norm
    for level in range(sizes.shape[0] - 1):
        size = sizes[level]
        for node in range(n_prefixes):
            for code in range(size):
                longer[node * size + code] = sums[node] + products[first + code]
        n_prefixes *= size
        first += size
        sums, longer = longer, sums
    size = sizes[-1]
    own = products[first : first + size]
    for node in range(n_prefixes):
        base = sums[node]
        begin = node * size
        out, norm, paid = values[begin : begin + size], norms[begin : begin + size], price[begin : begin + size]
        for code in range(size):
            out[code] = weight * max(base + (norm[code] + own[code]), np.float32(0.0)) + paid[code]


@njit
def keep_least(values: FloatArray, columns: IntArray, kept: FloatArray) -> float:
    """Write the columns of the least values, in no order; returns a bound from below on all the others.

    `kept` is scratch of the length of `columns`, the list's. Without others the bound is infinite.
    """
    count = columns.shape[0]
    if count == values.shape[0]:
        for j in range(count):
            columns[j] = j
        return np.inf
    for j in range(count):  # a heap with the largest value at its root
        node = j
        value = values[j]
        while node > 0 and kept[(node - 1) // 2] < value:
            kept[node], columns[node] = kept[(node - 1) // 2], columns[(node - 1) // 2]
            node = (node - 1) // 2
        kept[node], columns[node] = value, j
    worst = kept[0]
    for j in range(count, values.shape[0]):
        value = values[j]
        if value < worst:
            node = 0
            while True:
                child = 2 * node + 1
                if child >= count:
                    break
                if child + 1 < count and kept[child + 1] > kept[child]:
                    child += 1
                if kept[child] <= value:
                    break
                kept[node], columns[node] = kept[child], columns[child]
                node = child
            kept[node], columns[node] = value, j
            worst = kept[0]
    return float(worst)


@njit
def bid(place_price: FloatArray, place_holder: IntArray, begin: int, end: int, price: float, holder: int) -> int:
    """Give the cheapest place of a column, the root of its heap, to a holder at a price; returns the one before."""
    before = place_holder[begin]
    node, count = 0, end - begin
    while True:
        child = 2 * node + 1
        if child >= count:
            break
        if child + 1 < count and place_price[begin + child + 1] < place_price[begin + child]:
            child += 1
        if place_price[begin + child] >= price:
            break
        place_price[begin + node] = place_price[begin + child]
        place_holder[begin + node] = place_holder[begin + child]
        node = child
    place_price[begin + node] = price
    place_holder[begin + node] = holder
    return int(before)


@njit
def second_place(place_price: FloatArray, begin: int, end: int) -> float:
    """Return the price of a column's second cheapest place; infinite without one."""
    second = np.inf
    if end - begin > 1:
        second = place_price[begin + 1]
        if end - begin > 2:
            second = min(second, place_price[begin + 2])
    return second


@njit
def scan(columns: IntArray, costs: FloatArray, root: FloatArray) -> tuple[int, float, float]:
    """Return the position of an item's cheapest listed ID, what it pays there, and what on the next one."""
    at, best, second = 0, np.inf, np.inf
    for entry in range(columns.shape[0]):
        value = costs[entry] + root[columns[entry]]
        if value < second:
            if value < best:
                at, second, best = entry, best, value
            else:
                second = value
    return at, best, second


@njit
def release(
    place_start: IntArray,
    place_price: FloatArray,
    place_holder: IntArray,
    root: FloatArray,
    columns: IntArray,
    costs: FloatArray,
    limit: FloatArray,
    epsilon: float,
    queue: IntArray,
) -> tuple[int, int]:
    """Take the places of all that pay more than epsilon above what they could; returns how many items, how many others.

    The items are written to the front of `queue`. The prices of their places stay.
    """
    n_queued, n_idle, least = 0, 0, np.inf
    for j in range(root.shape[0]):
        least = min(least, root[j])
    for j in range(root.shape[0]):
        for place in range(place_start[j], place_start[j + 1]):
            holder = place_holder[place]
            if holder == EMPTY and place_price[place] > least + epsilon:
                place_holder[place] = NOBODY
                n_idle += 1
            elif holder >= 0:
                own = np.inf
                for entry in range(columns.shape[1]):
                    if columns[holder, entry] == j:
                        own = costs[holder, entry] + place_price[place]
                best = scan(columns[holder], costs[holder], root)[1]
                if own > min(best, limit[holder]) + epsilon:
                    place_holder[place] = NOBODY
                    queue[n_queued] = holder
                    n_queued += 1
    return n_queued, n_idle


@njit
def hold_auction(
    products: FloatArray,
    sizes: IntArray,
    norms: FloatArray,
    own_norms: FloatArray,
    weights: FloatArray,
    place_start: IntArray,
    place_price: FloatArray,
    place_holder: IntArray,
    root: FloatArray,
    columns: IntArray,
    costs: FloatArray,
    limit: FloatArray,
    epsilon: float,
    queue: IntArray,
    state: IntArray,
    work: int,
) -> int:
    """Let the queue bid until every item and every empty place has its place, or the work is used up.

    Whoever has no place bids for the ID that costs it least, prices included, and raises the price of its cheapest
    place to where the next best ID is as good, and by epsilon; whoever held that place goes back to the queue. Nobody
    pays more than epsilon above what it could, so the total is at most ``n_places * epsilon`` above the least one
    (D. P. Bertsekas, Annals of Operations Research 14, 1988).

    Prices only rise. So a list of an item's cheapest IDs is complete for as long as the cheapest one in it costs no
    more than the first one left out did when the list was made; then a new look at all IDs makes a new list. Places
    that stay empty are bid for too, by bidders who do not mind which one they get, so that in the end no place is
    cheaper than an empty one by more than epsilon.

    Parameters
    ----------
    products : ndarray of shape (n_items, sum of codebook sizes), dtype float32
        ``-2 <x, c>``, level by level.
    sizes : ndarray of shape (n_levels,), dtype int64
    norms : ndarray of shape (n_ids,), dtype float32
        ``|decode(id)|^2``, IDs in lexicographic order.
    own_norms, weights : ndarray of shape (n_items,), dtype float32
        ``|x|^2``, and the factor on all costs of an item.
    place_start : ndarray of shape (n_ids + 1,), dtype int64
        ID j has the places ``place_start[j] .. place_start[j + 1] - 1``; at least as many in all as there are items.
    place_price, place_holder : ndarray of shape (n_places,), dtype float64 and int64
    root : ndarray of shape (n_ids,), dtype float64
        Price of the cheapest place of each ID.
    columns, costs : ndarray of shape (n_items, list length), dtype int32 and float32
        Each item's list.
    limit : ndarray of shape (n_items,), dtype float64
        What the cheapest ID outside an item's list costs it at least.
    epsilon : float
    queue : ndarray of shape (n_items,), dtype int64
        A ring of items that bid, from ``state[0]`` on.
    state : ndarray of shape (3,), dtype int64
        Where the queue begins, how many items wait in it, and how many empty places have no place. In and out: a call
        goes on where the last one stopped.
    work : int
        Entries of lists and IDs to look at, at most, before it stops.

    Returns
    -------
    left : int
        Of the work; 0 or less where it was used up.
    """
    n_items, n_ids = own_norms.shape[0], norms.shape[0]
    paid = root.astype(np.float32)
    values = np.empty(n_ids, np.float32)
    prefix = np.empty((2, n_ids // sizes[-1]), np.float32)
    kept = np.empty(columns.shape[1], np.float32)
    cheapest = [(root[j], j) for j in range(n_ids) if root[j] < np.inf]
    heapq.heapify(cheapest)
    head, n_queued, n_idle = state[0], state[1], state[2]
    while n_queued + n_idle > 0 and work > 0:
        work -= columns.shape[1]
        if n_queued > 0:
            holder = queue[head]
            head = head + 1 if head + 1 < n_items else 0
            n_queued -= 1
            at, best, second = scan(columns[holder], costs[holder], root)
            if best > limit[holder]:
                value_row(products[holder], sizes, norms, own_norms[holder], weights[holder], paid, prefix, values)
                limit[holder] = keep_least(values, columns[holder], kept)
                work -= n_ids
                for entry in range(columns.shape[1]):
                    j = columns[holder, entry]
                    costs[holder, entry] = values[j] - paid[j] if root[j] < np.inf else np.float32(np.inf)
                at, best, second = scan(columns[holder], costs[holder], root)
            j, own = columns[holder, at], costs[holder, at]
            second = min(second, limit[holder])
        else:
            n_idle -= 1
            holder, own, second = EMPTY, np.float32(0.0), np.inf
            while cheapest[0][0] != root[cheapest[0][1]]:  # prices of before; they only rise
                j = cheapest[0][1]
                heapq.heapreplace(cheapest, (root[j], j))
            best, j = heapq.heappop(cheapest)
            while len(cheapest) > 0 and cheapest[0][0] != root[cheapest[0][1]]:
                other = cheapest[0][1]
                heapq.heapreplace(cheapest, (root[other], other))
            if len(cheapest) > 0:
                second = cheapest[0][0]
        begin, end = place_start[j], place_start[j + 1]
        second = min(second, own + second_place(place_price, begin, end))
        rise = second - best if second < np.inf else 0.0
        before = bid(place_price, place_holder, begin, end, root[j] + rise + epsilon, holder)
        root[j] = place_price[begin]
        paid[j] = root[j]
        if holder == EMPTY:
            heapq.heappush(cheapest, (root[j], j))
        if before >= 0:
            queue[(head + n_queued) % n_items] = before
            n_queued += 1
        elif before == EMPTY:
            n_idle += 1
    state[0], state[1], state[2] = head, n_queued, n_idle
    return work


@njit
def read_choice(place_start: IntArray, place_holder: IntArray, choice: IntArray) -> None:
    """Write the ID that each item holds."""
    for j in range(place_start.shape[0] - 1):
        for place in range(place_start[j], place_start[j + 1]):
            if place_holder[place] >= 0:
                choice[place_holder[place]] = j


@njit
def certify(
    products: FloatArray,
    sizes: IntArray,
    norms: FloatArray,
    own_norms: FloatArray,
    weights: FloatArray,
    place_price: FloatArray,
    root: FloatArray,
    choice: IntArray,
) -> tuple[float, float]:
    """Return the cost of the choice, and the lower bound of all that the prices prove by linear duality."""
    paid = root.astype(np.float32)
    values = np.empty(norms.shape[0], np.float32)
    prefix = np.empty((2, norms.shape[0] // sizes[-1]), np.float32)
    total, bound, least = 0.0, 0.0, np.inf
    for j in range(root.shape[0]):
        least = min(least, root[j])
    for place in range(place_price.shape[0]):
        bound -= place_price[place]
    bound += (place_price.shape[0] - own_norms.shape[0]) * least
    for item in range(own_norms.shape[0]):
        value_row(products[item], sizes, norms, own_norms[item], weights[item], paid, prefix, values)
        best = np.float32(np.inf)
        for j in range(values.shape[0]):
            best = min(best, values[j])
        total += values[choice[item]] - paid[choice[item]]
        bound += best
    return total, bound
