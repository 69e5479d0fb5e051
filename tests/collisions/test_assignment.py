import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import least_assignment_oracle
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from semid.collisions.candidates import assign


def sparse_problem(rng, n_items, n_columns, count):
    """Lists of `count` columns per item with float32 costs, ascending."""
    column = np.stack([rng.permutation(n_columns)[:count] for _ in range(n_items)])
    cost = np.sort(rng.random((n_items, count), dtype=np.float32), axis=1)
    start = np.arange(n_items) * count
    return start, start + count, column, cost


@given(seed=st.integers(0, 2**32 - 1), n_items=st.integers(1, 25), spare=st.integers(0, 5), room=st.integers(1, 3))
def test_complete_lists_give_the_cost_of_linear_sum_assignment(seed, n_items, spare, room):
    rng = np.random.default_rng(seed)
    n_columns = -(-n_items // room) + spare
    start, stop, column, cost = sparse_problem(rng, n_items, n_columns, n_columns)
    rooms = np.full(n_columns, room)
    solved = assign(start, stop, column.ravel(), cost.ravel(), rooms, np.ones(n_items))
    dense = np.empty((n_items, n_columns))
    np.put_along_axis(dense, column, cost.astype(np.float64), axis=1)
    assert solved.total == pytest.approx(least_assignment_oracle(dense, rooms))
    assert solved.dual.sum() + (rooms * solved.price).sum() == pytest.approx(solved.total)
    assert 0 <= solved.gap < 1e-9
    assert np.bincount(column.ravel()[solved.choice]).max() <= room


def test_sparse_lists_give_the_cost_of_scipys_sparse_solver():
    rng = np.random.default_rng(1)
    start, stop, column, cost = sparse_problem(rng, 300, 400, 12)
    graph = csr_array((cost.ravel() + 1.0, (np.repeat(np.arange(300), 12), column.ravel())), shape=(300, 400))
    rows, columns = min_weight_full_bipartite_matching(graph)
    solved = assign(start, stop, column.ravel(), cost.ravel(), np.ones(400, dtype=np.int64), np.ones(300))
    assert solved.total == pytest.approx(graph[rows, columns].sum() - 300, rel=1e-6)


def test_heavy_items_stay_put():
    start, stop, column, cost = np.array([0, 2]), np.array([2, 4]), np.array([0, 1, 0, 1]), np.array([0.0, 2, 0, 2])
    room = np.ones(2, dtype=np.int64)
    for weights in ([1.0, 5.0], [5.0, 1.0]):
        solved = assign(start, stop, column, cost, room, np.array(weights))
        assert solved.choice[np.argmax(weights)] == 2 * np.argmax(weights)
        assert solved.total == 2


def test_items_that_share_entries():
    room = np.array([2, 1, 1])
    solved = assign(
        np.zeros(4, dtype=np.int64), np.full(4, 3), np.array([0, 1, 2]), np.array([0.0, 1, 3]), room, np.ones(4)
    )
    assert sorted(solved.choice.tolist()) == [0, 0, 1, 2]
    assert (solved.total, solved.gap) == (4, 0)


def test_an_item_without_entries_or_room_has_an_infinite_dual():
    solved = assign(np.array([0, 0]), np.array([0, 1]), np.array([0]), np.array([1.0]), np.array([0]), np.ones(2))
    assert solved.choice.tolist() == [-1, -1]
    assert np.isinf(solved.dual).all()
    assert (solved.total, solved.gap) == (0, 0)


def test_the_same_arrays_give_the_same_choice():
    rng = np.random.default_rng(2)
    start, stop, column, cost = sparse_problem(rng, 200, 210, 30)
    cost = np.round(cost, 1)  # many ties
    solved = [
        assign(start, stop, column.ravel(), cost.ravel(), np.ones(210, dtype=np.int64), np.ones(200)) for _ in range(2)
    ]
    assert (solved[0].choice == solved[1].choice).all()
