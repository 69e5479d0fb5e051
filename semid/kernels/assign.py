"""Kernels of the collision resolver: number keys, place items one by one at least total cost, price the result."""

import heapq

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, FloatArray, IntArray
from semid.kernels.compile import njit

__all__ = ["OPEN", "find_keys", "hash_rows", "number_keys", "place_items", "price_items"]


# Number of the closing of a column that was never closed: later than all.
OPEN = 2**62


@njit
def slot_of(key: int, mask: int) -> int:
    """Return where a table of ``mask + 1`` slots, a power of two up to 2^32, begins to look for a key."""
    # Two rounds of multiply and shift: packed codes differ in few, regular bits, and one round leaves them clustered.
    mixed = key * 0x9E3779B97F4A7C1
    mixed = (mixed ^ (mixed >> 29)) * 0x3F58476D1CE4E5B9
    return (mixed >> 31) & mask


@njit
def number_keys(
    keys: IntArray, begin: int, slot_keys: IntArray, slot_numbers: IntArray, n_known: int, numbers: IntArray
) -> tuple[int, int]:
    """Give keys from `begin` on the numbers 0, 1, .. in order of first appearance, by a table at most half full.

    `slot_numbers` is -1 where a slot is empty. Returns the position reached, below ``len(keys)`` if the table must grow
    before it can go on, and the count of distinct keys so far.
    """
    mask = slot_keys.shape[0] - 1
    for position in range(begin, keys.shape[0]):
        key = keys[position]
        slot = slot_of(key, mask)
        while slot_numbers[slot] >= 0 and slot_keys[slot] != key:
            slot = (slot + 1) & mask
        if slot_numbers[slot] < 0:
            if 2 * n_known > mask:
                return position, n_known
            slot_keys[slot] = key
            slot_numbers[slot] = n_known
            n_known += 1
        numbers[position] = slot_numbers[slot]
    return keys.shape[0], n_known


@njit
def find_keys(keys: IntArray, slot_keys: IntArray, slot_numbers: IntArray, numbers: IntArray) -> None:
    """Look keys up in a table that `number_keys` filled; -1 where a key is unknown."""
    mask = slot_keys.shape[0] - 1
    for position in range(keys.shape[0]):
        key = keys[position]
        slot = slot_of(key, mask)
        while slot_numbers[slot] >= 0 and slot_keys[slot] != key:
            slot = (slot + 1) & mask
        numbers[position] = slot_numbers[slot]


@njit
def place_items(
    start: IntArray,
    stop: IntArray,
    column: IntArray,
    cost: FloatArray,
    weight: FloatArray,
    free: IntArray,
    price: FloatArray,
    closing: IntArray,
    first_holder: IntArray,
    next_holder: IntArray,
    previous_holder: IntArray,
    order: IntArray,
    budget: int,
    choice: IntArray,
) -> None:
    """Insert items one by one, in `order`, into an assignment that is optimal for those in it, and keep it optimal.

    Successive shortest augmenting paths: a Dijkstra search over full columns, with prices that keep all reduced lengths
    at or above zero, finds the cheapest chain of moves that ends where there is room. Item ``i`` may take the entries
    ``start[i] .. stop[i] - 1``, whose `cost` must ascend; entry ``e`` costs ``weight[i] * cost[e]`` and leads to
    ``column[e]``. Per column: `free` places left, `price` <= 0 and 0 where a place is left, the number of its
    `closing`, and its holders as a doubly linked list through the items. ``choice[i]`` is the entry that item ``i``
    holds or -1.

    A search that fails has seen full columns whose holders can go nowhere else. Nothing leaves such a set any more, so
    it is closed and later searches pass it by; without that, 20k items on 61 % of 32^3 codes took 42.6 s, not 1 s. A
    column that nobody may take comes closed, with number 0.

    Once the searches have looked at `budget` entries, the items that are left take their first entry that has room, or
    none: what that costs shows in the gap.
    """
    n_columns = free.shape[0]
    distance = np.full(n_columns, np.inf)
    settled = np.zeros(n_columns, np.bool_)
    via_entry = np.empty(n_columns, np.int64)
    via_item = np.empty(n_columns, np.int64)
    touched = np.empty(n_columns, np.int64)
    passed = np.empty(n_columns, np.int64)
    heap = [(0.0, 0)]
    heap.clear()
    n_closings = 0
    n_looks = 0
    for newcomer in order:
        if n_looks > budget:
            for entry in range(start[newcomer], stop[newcomer]):
                if free[column[entry]] > 0:
                    free[column[entry]] -= 1
                    choice[newcomer] = entry
                    break
            continue
        n_touched = 0
        n_passed = 0
        goal = -1
        goal_distance = np.inf
        item, holder, base, reached = newcomer, -1, 0.0, 0.0
        while True:
            for entry in range(start[item], stop[item]):
                n_looks += 1
                length = base + weight[item] * cost[entry]
                if length >= goal_distance:  # costs ascend and prices are never positive: the rest is no nearer
                    break
                j = column[entry]
                length -= price[j]
                if closing[j] < OPEN or settled[j] or length >= distance[j] or length >= goal_distance:
                    continue
                if distance[j] == np.inf:
                    touched[n_touched] = j
                    n_touched += 1
                distance[j] = length
                via_entry[j] = entry
                via_item[j] = item
                if free[j] > 0:
                    goal, goal_distance = j, length
                else:
                    heapq.heappush(heap, (length, j))
            if holder >= 0:
                holder = next_holder[holder]
            while holder < 0 and len(heap) > 0:
                length, j = heapq.heappop(heap)
                if length >= goal_distance:
                    break
                if settled[j] or length > distance[j]:
                    continue
                settled[j] = True
                passed[n_passed] = j
                n_passed += 1
                holder = first_holder[j]
                reached = length
            if holder < 0:
                break
            item = holder
            base = reached - (weight[item] * cost[choice[item]] - price[column[choice[item]]])
        heap.clear()

        if goal < 0:
            n_closings += 1
            for k in range(n_passed):
                closing[passed[k]] = n_closings
        else:
            for k in range(n_passed):  # full columns on the way become dearer
                price[passed[k]] += distance[passed[k]] - goal_distance
            free[goal] -= 1
            while True:  # each item of the chain moves on to the next column
                mover = via_item[goal]
                left = choice[mover]
                if left >= 0:
                    before, after = previous_holder[mover], next_holder[mover]
                    if before >= 0:
                        next_holder[before] = after
                    else:
                        first_holder[column[left]] = after
                    if after >= 0:
                        previous_holder[after] = before
                choice[mover] = via_entry[goal]
                previous_holder[mover] = -1
                next_holder[mover] = first_holder[goal]
                if first_holder[goal] >= 0:
                    previous_holder[first_holder[goal]] = mover
                first_holder[goal] = mover
                if mover == newcomer:
                    break
                goal = column[left]
        for k in range(n_touched):
            distance[touched[k]] = np.inf
            settled[touched[k]] = False


@njit
def price_items(
    start: IntArray,
    stop: IntArray,
    column: IntArray,
    cost: FloatArray,
    weight: FloatArray,
    price: FloatArray,
    closing: IntArray,
    choice: IntArray,
    dual: FloatArray,
) -> tuple[float, float]:
    """Write each item's least price, and return the cost of the placed items and how far above the least it can be.

    With prices p <= 0 that are 0 wherever a place is left, ``sum_i dual_i + sum_i p(choice_i)``, where ``dual_i`` is
    the least ``w_i c_e - p_e`` over the item's entries, bounds every assignment from below. Between closed sets the gap
    uses better prices: a closed set may be priced as low as one likes, since each holder's minimum rises by as much,
    and the lower the earlier it closed. So an entry in a set that closed before the item's own never binds.
    """
    total = 0.0
    gap = 0.0
    for item in range(choice.shape[0]):
        held = choice[item]
        own, own_closing = np.inf, 0
        if held >= 0:
            own = weight[item] * cost[held] - price[column[held]]
            own_closing = closing[column[held]]
            total += weight[item] * cost[held]
        least = own
        dual[item] = own
        for entry in range(start[item], stop[item]):
            length = weight[item] * cost[entry]
            if length >= least:  # costs ascend, prices are never positive, and dual <= least
                break
            j = column[entry]
            length -= price[j]
            if closing[j] > 0:
                dual[item] = min(dual[item], length)
                if held >= 0 and closing[j] >= own_closing:
                    least = min(least, length)
        if held >= 0:
            gap += own - least
    return total, gap


@njit
def hash_rows(bits: npt.NDArray[np.uint32], hashes: Array) -> None:
    """Mix each row of ``float32`` bits into one number, on top of what `hashes` holds; 0.0 and -0.0 are the same.

    Parameters
    ----------
    bits : ndarray of shape (n_rows, dim), dtype uint32
    hashes : ndarray of shape (n_rows,), dtype int64
        In and out.
    """
    for row in range(bits.shape[0]):
        mixed = hashes[row]
        for d in range(bits.shape[1]):
            word = np.int64(bits[row, d])
            mixed = (mixed ^ (word if word != 0x80000000 else np.int64(0))) * 0x9E3779B97F4A7C1
            mixed ^= (mixed >> 32) & 0xFFFFFFFF
        hashes[row] = mixed
