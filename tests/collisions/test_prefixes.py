import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from semid.collisions.candidates import PrefixRoom

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
