import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import least_assignment_oracle

from semid.kernels.assign import OPEN, find_keys, number_keys, place_items, price_items, slot_of


def place(cost, room, weights=None, budget=2**62):
    """Run the kernels on a dense cost matrix, inf where an item may not go; choices come back as columns."""
    n_items, n_columns = cost.shape
    order = np.argsort(cost, axis=1, kind="stable")
    start = np.arange(n_items) * n_columns
    stop = start + np.isfinite(cost).sum(axis=1)
    column, costs = order.ravel(), np.take_along_axis(cost, order, axis=1).ravel()
    weights = np.ones(n_items) if weights is None else weights
    free, price, closing = room.copy(), np.zeros(n_columns), np.where(room > 0, OPEN, 0)
    first, following, previous = np.full(n_columns, -1), np.full(n_items, -1), np.full(n_items, -1)
    choice, dual = np.full(n_items, -1), np.empty(n_items)
    rows = np.arange(n_items)
    place_items(
        start, stop, column, costs, weights, free, price, closing, first, following, previous, rows, budget, choice
    )
    total, gap = price_items(start, stop, column, costs, weights, price, closing, choice, dual)
    chosen = np.where(choice >= 0, column[choice], -1)
    holders = [walk_holders(first[j], following, previous) for j in range(n_columns)]
    return {
        "chosen": chosen, "free": free, "price": price, "closing": closing, "holders": holders, "total": total,
        "gap": gap, "dual": dual,
    }  # fmt: skip


def walk_holders(first, following, previous):
    """Follow one column's doubly linked list, and check that it leads back."""
    items, before = [], -1
    while first >= 0:
        assert previous[first] == before
        items.append(int(first))
        before, first = first, following[first]
    return items


@st.composite
def problems(draw):
    """Sparse problems: costs with many ties, columns with room for 0 to 3 items, weights that may be 0."""
    n_items, n_columns = draw(st.integers(1, 9)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([2, 5, 1000]))
    cost = rng.integers(0, levels, (n_items, n_columns)).astype(np.float64)
    cost[rng.random(cost.shape) < draw(st.sampled_from([0.0, 0.4, 0.7]))] = np.inf
    return cost, rng.integers(0, 4, n_columns), rng.integers(0, 3, n_items).astype(np.float64)


def weighted(cost, weights):
    return np.where(np.isfinite(cost), weights[:, None] * np.where(np.isfinite(cost), cost, 0), np.inf)


def test_place_items_beyond_its_budget_takes_what_is_free_and_the_gap_covers_it():
    cost, room = np.array([[0.0, 1.0], [0.0, 9.0], [0.0, 2.0]]), np.array([1, 2])
    least = least_assignment_oracle(cost, room)
    hasty = place(cost, room, budget=-1)
    assert hasty["chosen"].tolist() == [0, 1, 1] and hasty["free"].tolist() == [0, 0]
    assert hasty["total"] == 11.0 and least == 3.0
    assert hasty["gap"] >= hasty["total"] - least


@given(problems())
def test_place_items_costs_what_scipy_says(problem):
    cost, room, weights = problem
    least = least_assignment_oracle(weighted(cost, weights), room)
    state = place(cost, room, weights)
    if least is None:
        assert (state["chosen"] < 0).any()
    else:
        assert (state["chosen"] >= 0).all()
        assert state["total"] == pytest.approx(least, abs=1e-9)


@given(problems())
def test_place_items_places_as_many_as_possible_at_the_least_cost_for_them(problem):
    cost, room, weights = problem
    state = place(cost, room, weights)
    placed = state["chosen"] >= 0
    # A large reward for each placed item, and a column of its own for each one left out.
    out = np.where(np.eye(len(cost), dtype=bool), 1e6, np.inf)
    everybody = np.concatenate([weighted(cost, weights), out], axis=1)
    most = least_assignment_oracle(everybody, np.concatenate([room, np.ones(len(cost), dtype=int)]))
    assert (~placed).sum() == round(most // 1e6)
    if placed.any():
        least = least_assignment_oracle(weighted(cost, weights)[placed], room)
        assert state["total"] == pytest.approx(least, abs=1e-9)


@given(problems())
def test_place_items_keeps_its_books(problem):
    cost, room, weights = problem
    state = place(cost, room, weights)
    for j, holders in enumerate(state["holders"]):
        assert sorted(holders) == np.flatnonzero(state["chosen"] == j).tolist()
        assert len(holders) + state["free"][j] == room[j]
        assert state["price"][j] <= 0
        assert state["price"][j] == 0 or state["free"][j] == 0


@given(problems())
def test_price_items_proves_the_assignment(problem):
    cost, room, weights = problem
    state = place(cost, room, weights)
    assert 0 <= state["gap"] <= 1e-9
    bound = state["dual"].sum() + (room * state["price"]).sum()
    least = least_assignment_oracle(weighted(cost, weights), room)
    if least is not None:
        assert bound == pytest.approx(least, abs=1e-9)


def test_price_items_sees_an_assignment_that_is_not_optimal():
    start, stop = np.array([0, 2]), np.array([2, 4])
    column, cost = np.array([0, 1, 0, 1]), np.array([0.0, 1.0, 0.0, 5.0])
    dual = np.empty(2)
    swapped = np.array([0, 3])  # item 0 sits where item 1 would save 5 for a loss of 1
    total, gap = price_items(
        start, stop, column, cost, np.ones(2), np.array([-1.0, 0.0]), np.full(2, OPEN), swapped, dual
    )
    assert (total, gap) == (5.0, 4.0)
    assert dual.tolist() == [1.0, 1.0]


def test_place_items_closes_a_full_set_that_nothing_can_leave():
    cost = np.array([[0.0, 1.0, np.inf], [0.0, 1.0, np.inf], [0.0, 1.0, np.inf], [0.0, 1.0, np.inf], [0.0, 1.0, 2.0]])
    state = place(cost, np.array([1, 1, 1]))
    assert state["chosen"].tolist() == [1, 0, -1, -1, 2] or state["chosen"].tolist() == [0, 1, -1, -1, 2]
    assert state["closing"].tolist() == [1, 1, OPEN]


def test_place_items_leaves_columns_without_room_alone():
    state = place(np.array([[0.0, 3.0], [0.0, 2.0]]), np.array([0, 2]))
    assert state["chosen"].tolist() == [1, 1]
    assert state["total"] == 5


@given(st.lists(st.integers(0, 50), max_size=60), st.sampled_from([0, 1, 2**62 - 60]))
def test_number_keys_counts_first_appearances(keys, offset):
    keys = np.array(keys, dtype=np.int64) + offset
    slot_keys, slot_numbers = np.empty(128, dtype=np.int64), np.full(128, -1)
    numbers = np.empty(len(keys), dtype=np.int64)
    end, n_known = number_keys(keys, 0, slot_keys, slot_numbers, 0, numbers)
    seen = list(dict.fromkeys(keys.tolist()))
    assert (end, n_known) == (len(keys), len(seen))
    assert numbers.tolist() == [seen.index(key) for key in keys.tolist()]
    looked_up = np.empty(2, dtype=np.int64)
    find_keys(np.array([2**61, offset + 51]), slot_keys, slot_numbers, looked_up)
    assert looked_up.tolist() == [-1, -1]


def test_number_keys_stops_when_the_table_is_half_full():
    keys = np.arange(10)
    slot_keys, slot_numbers, numbers = np.empty(8, dtype=np.int64), np.full(8, -1), np.empty(10, dtype=np.int64)
    assert number_keys(keys, 0, slot_keys, slot_numbers, 0, numbers) == (4, 4)


def test_slots_of_packed_codes_spread():
    keys = np.arange(4096) * 65_536  # last two of four levels at 0
    slots = {slot_of(int(key), 2**16 - 1) for key in keys}
    assert len(slots) > 0.9 * len(keys)
