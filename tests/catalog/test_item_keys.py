import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semid._checks import as_ids
from semid.catalog.item_keys import IntKeys, StrKeys, make_keys

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
    again = type(keys).from_arrays(keys.saved_arrays(), verify=True)
    assert again.at(positions) == ids[::-1] and len(again) == len(keys) == len(ids)


def test_arrays_are_not_shared():
    ids = np.array([5, 6])
    keys = make_keys(as_ids(ids))
    ids[0] = 7
    assert keys.find(as_ids([5, 7])).tolist() == [0, -1]


@pytest.mark.parametrize("ids", [["a", "b"], [5, 3]])
def test_damaged_positions(ids):
    keys = make_keys(as_ids(ids))
    name = "item_ids.key_at" if isinstance(keys, StrKeys) else "item_ids.place_of"
    with pytest.raises(ValueError, match=r"2 item ids with positions of shape .*\(3,\)"):
        type(keys).from_arrays(keys.saved_arrays() | {name: np.arange(3)}, verify=False)


@given(st.lists(NUMBERS, min_size=2, unique=True) | st.lists(TEXTS, min_size=2, unique=True), st.randoms(), st.data())
def test_joined_and_kept_agree_with_lists(ids, random, data):
    n_old = data.draw(st.integers(1, len(ids) - 1))
    joined = make_keys(as_ids(ids[:n_old])).joined(as_ids(ids[n_old:]))
    assert joined.at(np.arange(len(ids))) == ids
    positions = random.sample(range(len(ids)), data.draw(st.integers(1, len(ids))))
    kept = joined.kept(np.array(positions))
    assert kept.at(np.arange(len(positions))) == [ids[position] for position in positions]
    assert kept.find(as_ids(ids)).tolist() == [positions.index(i) if i in positions else -1 for i in range(len(ids))]


def test_bytes_of_ids():
    n_items = 100_000
    small = make_keys(as_ids(np.arange(n_items)[::-1].copy()))
    large = make_keys(as_ids(np.arange(n_items) * 2**40))
    texts = make_keys([f"B0{number * 7919 % 10**8:08d}" for number in range(n_items)])
    bytes_per_id = [sum(array.nbytes for array in keys.arrays().values()) / n_items for keys in (small, large, texts)]
    assert bytes_per_id[:2] == [12, 16] and 8 < bytes_per_id[2] < 24
