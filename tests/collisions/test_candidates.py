import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import least_assignment_oracle
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from semid.collisions.candidates import CandidateLists, PrefixRoom, assign, beam_width


@pytest.fixture
def lists(make_quantizer):
    quantizer = make_quantizer((3, 3))
    X = np.random.default_rng(0).standard_normal((5, 3), dtype=np.float32)
    taken = np.array([[0, 0], [0, 0], [1, 2]], dtype=np.uint8)
    return CandidateLists(
        quantizer,
        X,
        np.array([0, 0, 0, 1, 1]),
        n_groups=2,
        capacity=2,
        taken=taken,
        taken_groups=np.zeros(3, dtype=int),
    )


def test_published_ids_use_room_in_their_group(lists):
    lists.extend(np.arange(5), 9)
    assert len(lists.room) == 18
    for item in range(5):
        entries = np.arange(lists.start[item], lists.stop[item])
        room = dict(zip(map(tuple, lists.codes_of(entries).tolist()), lists.room[lists.column[entries]], strict=True))
        assert room[0, 0] == (0 if item < 3 else 2)
        assert room[1, 2] == (1 if item < 3 else 2)
        assert room[2, 2] == 2
    assert np.isinf(lists.reach).all()
    assert np.isinf(lists.limit(np.zeros(5))).all()


def test_lists_grow_and_ids_keep_their_numbers(lists):
    lists.extend(np.arange(5), 2)
    before = lists.column.copy()
    lists.extend(np.array([1, 3]), 4)
    assert (lists.column[:10] == before).all()
    assert (lists.stop - lists.start).tolist() == [2, 4, 2, 4, 2]
    for item in range(5):
        entries = np.arange(lists.start[item], lists.stop[item])
        assert (np.diff(lists.cost[entries]) >= 0).all()
        assert lists.reach[item] == lists.cost[entries[-1]]
    assert lists.column[lists.start[1] : lists.start[1] + 2].tolist() == before[2:4].tolist()
    assert lists.limit(np.full(5, 2.0)).tolist() == (2 * lists.reach).tolist()


@pytest.mark.parametrize(
    ("count", "sizes", "expected"),
    [(16, (256, 256, 256), 8), (64, (256, 256, 256), 32), (12, (4, 3), 4), (5, (5,), 1), (16, (2,) * 10, 8)],
)
def test_beam_width(count, sizes, expected):
    assert beam_width(count, sizes) == expected


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


LINE = [np.array([[0.0], [1.0], [5.0]], dtype=np.float32), np.array([[0.0], [0.4], [0.1]], dtype=np.float32)]
NO_GROUP = np.zeros(1, dtype=np.int64)


def place(tree, rows):
    return tree.place(np.array(rows, dtype=np.uint8), np.zeros(len(rows), dtype=np.int64)).tolist()


def test_a_free_id_stays():
    assert place(PrefixRoom(LINE, capacity=1), [[2, 1]]) == [[2, 1]]


def test_siblings_come_nearest_first_then_the_next_prefix():
    tree = PrefixRoom(LINE, capacity=1)
    assert place(tree, [[1, 0]] * 5) == [[1, 0], [1, 2], [1, 1], [0, 0], [0, 2]]


def test_capacity_and_published_rows_count():
    tree = PrefixRoom(LINE, capacity=2)
    tree.add(np.array([[1, 0]], dtype=np.uint8), NO_GROUP)
    assert place(tree, [[1, 0], [1, 0]]) == [[1, 0], [1, 2]]


def test_groups_have_trees_of_their_own():
    tree = PrefixRoom(LINE, capacity=1, n_groups=2)
    wanted = np.array([[0, 0], [0, 0], [0, 0]], dtype=np.uint8)
    assert tree.place(wanted, np.array([0, 1, 1])).tolist() == [[0, 0], [0, 0], [0, 2]]


def test_equal_centroids_leave_the_wanted_code_first():
    tree = PrefixRoom([np.zeros((3, 1), dtype=np.float32)], capacity=1)
    assert place(tree, [[2], [2], [2]]) == [[2], [0], [1]]


def test_more_ids_than_int64_counts():
    tree = PrefixRoom([np.arange(256, dtype=np.float32)[:, None]] * 9, capacity=1)
    assert place(tree, [[0] * 9, [0] * 9]) == [[0] * 9, [0] * 8 + [1]]


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    capacity=st.integers(1, 2),
    n_groups=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_every_place_is_found(sizes, capacity, n_groups, seed):
    rng = np.random.default_rng(seed)
    tree = PrefixRoom([rng.random((size, 2), dtype=np.float32) for size in sizes], capacity=capacity, n_groups=n_groups)
    groups = np.repeat(np.arange(n_groups), capacity * np.prod(sizes))
    wanted = np.stack([rng.integers(0, size, len(groups)) for size in sizes], axis=1)
    rows = np.column_stack([groups, tree.place(wanted, groups)])
    unique, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(unique) == n_groups * np.prod(sizes)
    assert (counts == capacity).all()
