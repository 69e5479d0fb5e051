import numpy as np
import pytest

from semid.collisions.candidates import CandidateLists, beam_width


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
