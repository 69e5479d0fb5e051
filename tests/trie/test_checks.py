import numpy as np
import pytest

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie import RankLists
from semid.trie.checks import plain, plain_int64

CODES = np.array([[0, 2, 1], [0, 3, 0], [1, 2, 0], [1, 2, 5], [300, 2, 7]])


def unaligned(array):
    array = np.ascontiguousarray(array)
    room = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    room[...] = array
    return room


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


FORMS = {
    "swapped": lambda array: array.astype(array.dtype.newbyteorder("S")),
    "unaligned": unaligned,
    "read-only": read_only,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "backwards": lambda array: array[::-1].copy()[::-1],
    "fortran": np.asfortranarray,
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64])
def test_a_trie_of_codes_in_any_form(backend, form, dtype):
    trie = semid.Trie.from_codes(form(CODES.astype(dtype)))
    assert list(trie) == sorted(map(tuple, CODES.tolist()))
    assert semid.Trie.from_codes(form(CODES[:4].astype(dtype))).merge(trie) == trie
    assert trie.update(added=form(np.array([[2, 0, 0]], dtype)), removed=form(CODES[:1].astype(dtype))).n_items == 5
    assert list(semid.Trie.from_sequences(form(CODES.astype(dtype)), end=9)) == [(*row, 9) for row in trie]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64])
def test_questions_in_any_form(backend, form, dtype):
    trie = semid.Trie.from_codes(CODES)
    assert trie.rank(form(CODES.astype(dtype))).tolist() == [0, 1, 2, 3, 4]
    assert trie.walk(form(CODES[:, :2].astype(dtype))).tolist() == [0, 1, 2, 2, 4]
    assert trie.children(form(np.array([1, 2], dtype))).tolist() == [0, 5]
    assert trie.prefix_range(form(np.array([1], dtype))) == range(2, 4)
    assert trie.codes_of(form(np.array([3, 0], dtype))).tolist() == CODES[[3, 0]].tolist()
    assert trie.restrict(form(np.array([4, 1], dtype))).ranks().tolist() == [1, 4]
    nodes = form(trie.walk([[300], [0]]).astype(dtype))
    assert trie.allowed(nodes, depth=1)[1].tolist() == [2, 2, 3]
    assert trie.node_ranges(nodes, depth=1).tolist() == [[4, 5], [0, 2]]


def test_steps_in_any_form(backend, form):
    trie = semid.Trie.from_codes(CODES)
    nodes, tokens = form(np.array([0, 2])), form(np.arange(4)[::-1])
    bitmask = np.zeros((2, 1), np.int32)
    trie.fill_bitmask(bitmask, nodes, depth=1, tokens=tokens)
    assert bitmask.tolist() == [[0b11], [0b10]]
    scores = np.zeros((2, 4), np.float32)
    trie.mask_inplace(scores, nodes, depth=1, tokens=tokens)
    assert (scores == 0).tolist() == [[True, True, False, False], [False, True, False, False]]
    log_probs = form(np.array([[[1, 2, 3, 4], [0, 0, 9, 5]]], np.float32))
    step = {"exclude": [form(np.array([4, 3]))], "candidates": [form(np.array([4, 1, 0]))]}
    out = trie.select(log_probs, form(np.array([[0, 1]], np.float32)), form(np.array([[0, 2]])), depth=1, k=4, **step)
    assert out.scores[0].tolist() == [4, 3, -np.inf, -np.inf] and out.codes[0].tolist() == [3, 2, -1, -1]
    assert RankLists.of(step["exclude"], n_items=5).ranks.tolist() == [3, 4]


def test_an_unaligned_bitmask_is_refused():
    message = r"expected \(1, words\), writable, aligned and in C order, got \(1, 1\)"
    with pytest.raises(InvalidValueError, match=message):
        semid.Trie.from_codes(CODES).fill_bitmask(unaligned(np.zeros((1, 1), np.int32)), [0], depth=1, tokens=range(4))


def test_what_is_right_is_not_copied():
    array = read_only(np.arange(3))
    assert plain(array, np.int64) is array and plain_int64(array, name="nodes", remedy="") is array
    assert plain_int64([], name="nodes", remedy="").dtype == np.int64
    with pytest.raises(InvalidTypeError, match=r"nodes has a wrong dtype: .* integers, got float64\. Round them"):
        plain_int64([0.0], name="nodes", remedy="Round them.")


def test_ranks_may_repeat_where_they_are_no_mask(backend):
    trie = semid.Trie.from_codes(CODES[:4])
    assert trie.restrict([2, 0, 2]).ranks().tolist() == [0, 2] and trie.restrict([1] * 5).ranks().tolist() == [1]
    assert trie.restrict([3, 1, 0, 2]) == trie
    assert semid.Trie.from_codes(CODES[:2]).restrict([1, 0]).n_items == 2


@pytest.mark.parametrize(
    ("given_", "error", "message"),
    [
        (np.ones(3, bool), InvalidValueError, r"mask has a wrong length: expected 4 booleans.*got 3"),
        (np.ones((2, 2), bool), InvalidValueError, r"expected \(4,\) booleans or a list of ranks, got \(2, 2\)"),
        ([0, 4], InvalidValueError, r"expected 0 \.\. 3, got 4"),
        ([-1], InvalidValueError, r"expected 0 \.\. 3, got -1"),
        (
            np.array([1, 0, 0, 1], np.uint8),
            InvalidValueError,
            r"ambiguous: .* got 4 integers, one an item, with rep",
        ),
        (
            [3, 0, 0, 2],
            InvalidValueError,
            r"Pass a mask as booleans, with astype\(bool\), or numpy\.unique of the ranks",
        ),
        ([0.5], InvalidTypeError, "expected booleans or integer ranks, got float64"),
    ],
)
def test_bad_restrictions(given_, error, message):
    with pytest.raises(error, match=message):
        semid.Trie.from_codes(CODES[:4]).restrict(given_)
