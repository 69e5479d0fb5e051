import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semid.catalog.item_keys import IntKeys, StrKeys, as_ids, make_keys

NUMBERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(
    st.lists(NUMBERS, min_size=1, unique=True) | st.lists(TEXTS, min_size=1, unique=True),
    st.lists(NUMBERS | st.integers() | st.text() | st.none() | st.booleans()),
)
def test_positions_agree_with_a_dict(ids, others):
    keys = make_keys(as_ids(ids))
    assert isinstance(keys, IntKeys if isinstance(ids[0], int) else StrKeys)
    position_of = {item_id: position for position, item_id in enumerate(ids)}
    for asked in (ids[::-1], others, [*others, *ids]):
        expected = [-1 if isinstance(item_id, bool) else position_of.get(item_id, -1) for item_id in asked]
        assert keys.find(as_ids(asked)).tolist() == expected
    positions = np.arange(len(ids))[::-1]
    assert keys.at(positions) == ids[::-1]
    again = type(keys).from_arrays(keys.arrays())
    assert again.at(positions) == ids[::-1] and len(again) == len(keys) == len(ids)


def test_arrays_are_not_shared():
    ids = np.array([5, 6])
    keys = make_keys(as_ids(ids))
    ids[0] = 7
    assert keys.find(as_ids([5, 7])).tolist() == [0, -1]


def test_kinds_of_as_ids():
    assert as_ids(np.array([1, 2], np.uint64)).dtype == np.int64
    assert as_ids([np.int8(1), 2]).dtype == np.int64
    for mixed in ([1, "a"], [True], [2**63], [], ["a"], [1.0]):
        assert as_ids(mixed) == mixed


def test_damaged_positions():
    arrays = make_keys(["a", "b"]).arrays() | {"item_ids.position": np.array([0, 0])}
    with pytest.raises(ValueError, match="the positions are no permutation"):
        StrKeys.from_arrays(arrays)
