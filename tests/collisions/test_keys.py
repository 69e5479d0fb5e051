import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semid.collisions.keys import KeyNumbers, RowNumbers, bits_of, count_collisions, positions_in_groups


def test_key_numbers_survive_growth():
    table = KeyNumbers()
    keys = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 5000)
    assert table.number(keys).tolist() == list(range(5000))
    assert len(table) == 5000
    assert table.number(keys[::-1]).tolist() == list(range(5000))[::-1]
    assert table.find(np.append(keys[:3], 7)).tolist() == [0, 1, 2, -1]


@given(
    sizes=st.lists(st.sampled_from([1, 2, 3, 256, 65_536]), min_size=1, max_size=8),
    n_groups=st.sampled_from([1, 3, 1000]),
    seed=st.integers(0, 100),
)
def test_row_numbers_agree_with_a_dict(sizes, n_groups, seed):
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.choice([0, size // 2, size - 1], 80) for size in sizes], axis=1)
    groups = rng.integers(0, n_groups, 80) if n_groups > 1 else None
    numbers, seen = RowNumbers(sizes, n_groups=n_groups), {}
    expected = [
        seen.setdefault((0 if groups is None else int(groups[i]), *rows[i].tolist()), len(seen)) for i in range(80)
    ]
    # In two batches: numbers stay.
    got = [numbers.number(part, None if groups is None else groups[at]) for part, at in (
        (rows[:30], slice(0, 30)), (rows[30:], slice(30, 80)),
    )]  # fmt: skip
    assert np.concatenate(got).tolist() == expected
    assert len(numbers) == len(seen)


def test_rows_in_many_blocks_and_tables_that_grow_twofold_get_the_same_numbers(monkeypatch):
    rows = np.random.default_rng(0).integers(0, 64, (9000, 3))
    expected = RowNumbers((64,) * 3).number(rows)
    monkeypatch.setattr("semid.collisions.keys.BLOCK", 1000)
    monkeypatch.setattr("semid.collisions.keys.MANY_SLOTS", 1024)
    assert (RowNumbers((64,) * 3).number(rows) == expected).all()


def test_row_numbers_of_no_levels_tell_no_rows_apart():
    assert RowNumbers(()).number(np.empty((3, 0), dtype=np.uint8)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("size", "bits"), [(1, 0), (2, 1), (3, 2), (256, 8), (257, 9)])
def test_bits_of(size, bits):
    assert bits_of(size) == bits


CODES = np.array([[0, 1], [0, 1], [1, 0], [0, 1], [1, 1]], dtype=np.uint8)


@pytest.mark.parametrize(("capacity", "expected"), [(1, 2), (2, 1), (3, 0)])
def test_items_too_many_for_their_id(capacity, expected):
    assert count_collisions(CODES, (2, 2), capacity=capacity) == expected


def test_published_ids_use_places():
    taken = np.array([[1, 0], [0, 0]], dtype=np.uint8)
    assert count_collisions(CODES, (2, 2), taken=taken) == 3
    assert count_collisions(CODES, (2, 2), taken=np.repeat(taken, 5, axis=0)) == 3
    assert count_collisions(CODES, (2, 2), taken=taken[:0]) == 2


def test_positions_in_groups():
    assert positions_in_groups(np.array([5, 5, 2, 5, 2])).tolist() == [0, 1, 0, 2, 1]
