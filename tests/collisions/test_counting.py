import numpy as np
import pytest

from semid.collisions.keys import count_collisions, positions_in_groups

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
