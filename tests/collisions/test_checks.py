import numpy as np
import pytest

import semid
from semid.collisions.checks import check_item_ids
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


def test_messages():
    with pytest.raises(
        InvalidTypeError, match=r"item_ids have wrong types: .*all int or all str, got int, str\. Convert"
    ):
        check_item_ids(["0", "1", 7], 3)
    with pytest.raises(InvalidValueError, match=r"item_ids have a wrong length: expected 3, got 2\. Pass one"):
        check_item_ids(["a", "b"], 3)
    with pytest.raises(
        InvalidValueError, match=r"item_ids repeat: expected each id once, got \[7\] more than once\. Dr"
    ):
        check_item_ids([7, 3, 7], 3)


def test_a_set_is_refused_because_its_order_is_arbitrary(rng):
    X = rng.normal(size=(3, 2)).astype(np.float32)
    quantizer = semid.KMeans(codebook_size=3, seed=0).fit(X)
    with pytest.raises(InvalidTypeError, match=r"item_ids have no order: expected a sequence of ids, .* got a set\."):
        semid.resolve(quantizer, X, item_ids={"a", "b", "c"})
