"""Item ids: read as the catalogue reads them, and ranked."""

import numpy as np
import pytest

from semid.catalog.item_keys import as_ids, make_keys
from semid.collisions.item_ids import check_item_ids
from semid.errors import InvalidTypeError, InvalidValueError


class Column:
    """What a column of a data frame has in common with others: a length, items, and no dtype of NumPy."""

    def __init__(self, values):
        self.values = values

    def __iter__(self):
        return iter(self.values)


@pytest.mark.parametrize(
    ("item_ids", "ranks"),
    [
        ([30, -5, 7], [2, 0, 1]),
        (["b", "a", "c"], [1, 0, 2]),
        (np.array([30, -5, 7], dtype=np.int8), [2, 0, 1]),
        (np.array(["b", "a", "c"]), [1, 0, 2]),
        (np.array(["b", "a", "c"], dtype=object), [1, 0, 2]),
        (np.array([30, -5, 7], dtype=object), [2, 0, 1]),
        ([np.int64(30), -5, np.uint8(7)], [2, 0, 1]),
        ([2**63, -1, 0], [2, 0, 1]),
        ([2**80, 2**80 - 1, 0], [2, 1, 0]),
        (["a\0", "a", "a\0\0"], [1, 0, 2]),
        (Column(["b", "a", "c"]), [1, 0, 2]),
        (range(3), [0, 1, 2]),
    ],
    ids=repr,
)
def test_ranks(item_ids, ranks):
    assert check_item_ids(item_ids, 3).tolist() == ranks


def test_no_ids_have_no_ranks():
    assert check_item_ids(None, 3) is None


@pytest.mark.parametrize(
    "item_ids",
    [
        ["0", "1", 7], np.array(["0", "1", 7], dtype=object), [0.0, 1.0, 2.0], np.array([True, False, True]),
        [[1], [2], [3]], [b"a", b"b", b"c"], [None, "a", "b"], "abc",
    ],
    ids=repr,
)  # fmt: skip
def test_what_the_catalogue_refuses_is_refused_in_its_words(item_ids):
    with pytest.raises(InvalidTypeError) as expected:
        make_keys(as_ids(item_ids))
    with pytest.raises(InvalidTypeError) as raised:
        check_item_ids(item_ids, 3)
    assert str(raised.value) == str(expected.value)


def test_messages():
    with pytest.raises(InvalidTypeError, match=r"expected a sequence of int or str, got int\. Pass one id per item"):
        check_item_ids(3, 3)
    with pytest.raises(InvalidValueError, match=r"item_ids have a wrong length: expected 3, got 2\. Pass one"):
        check_item_ids(["a", "b"], 3)
    with pytest.raises(InvalidValueError, match=r"item_ids repeat: expected each id once, got 7 2 times\. Pass one"):
        check_item_ids([7, 3, 7], 3)
