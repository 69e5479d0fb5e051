"""Arguments of wrong types, shapes, strides and byte orders: an error of semid's, or what the values mean."""

import random
import warnings

import numpy as np
import pytest
import torch
from attack.odd import odd

import semid
from semid.errors import InvalidTypeError, InvalidValueError, SemidError

CODES = np.unique(np.random.default_rng(0).integers(0, 8, (60, 3)), axis=0)
TRIE = semid.Trie.from_codes(CODES, codebook_sizes=[8, 8, 8])
SCORES, START, NODES = np.zeros((2, 3, 8), np.float32), np.zeros((2, 3), np.float32), np.zeros((2, 3), np.int64)
CALLS = {
    "from_codes": lambda some: semid.Trie.from_codes(some(CODES), codebook_sizes=some(None)),
    "from_sequences": lambda some: semid.Trie.from_sequences(some([[1, 2], [3]]), end=some(9)),
    "children": lambda some: TRIE.children(some((0,))),
    "walk": lambda some: TRIE.walk(some(CODES)),
    "rank": lambda some: TRIE.rank(some(CODES)),
    "codes_of": lambda some: TRIE.codes_of(some([0, 1])),
    "prefix_range": lambda some: TRIE.prefix_range(some((0,))),
    "allowed": lambda some: TRIE.allowed(some([0]), depth=some(1)),
    "restrict": lambda some: TRIE.restrict(some([1, 2])),
    "update": lambda some: TRIE.update(added=some(None), removed=some(None)),
    "merge": lambda some: TRIE.merge(some(TRIE)),
    "mask_inplace": lambda some: TRIE.mask_inplace(
        some(np.zeros((2, 20), np.float32)), some([0, 1]), depth=some(1), tokens=some(np.arange(8)),
        lost_token=some(None), neg_inf=some(-np.inf),
    ),
    "fill_bitmask": lambda some: TRIE.fill_bitmask(
        some(np.zeros((2, 4), np.int32)), some([0, 1]), depth=some(1), tokens=some(np.arange(8))
    ),
    "select": lambda some: TRIE.select(
        some(SCORES), some(START), some(NODES), depth=some(0), k=some(4), exclude=some(None), candidates=some(None)
    ),
    "select_rows": lambda some: semid.trie.select_rows(
        some([TRIE, TRIE]), some(SCORES), some(START), some(NODES), depth=some(0), k=some(4), exclude=some(None),
        candidates=some(None),
    ),
    "rank_lists": lambda some: TRIE.rank_lists(some([[1], [2]])),
    "load": lambda some: semid.Trie.load(some("no such file")),
    "contains": lambda some: some((0, 1, 2)) in TRIE,
}  # fmt: skip


@pytest.mark.parametrize("backend", ["ext", "numba"])
@pytest.mark.parametrize("name", CALLS)
def test_whatever_is_passed_the_error_is_one_of_ours(name, backend, monkeypatch):
    monkeypatch.setenv("SEMID_BACKEND", backend)
    rng, n_errors = random.Random(name), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as that codes were equal
        for _ in range(400):
            try:
                CALLS[name](lambda good: good if rng.random() < 0.5 else odd(rng))
            except SemidError:
                n_errors += 1
    assert name == "contains" or n_errors > 20


def test_scores_of_any_float_dtype_mean_the_same():
    rng = np.random.default_rng(0)
    scores = rng.integers(-8, 8, (2, 3, 8)).astype(np.float32) / 4
    expected = TRIE.select(scores, START, NODES, depth=0, k=4)
    tensor = torch.from_numpy(scores)
    for same in (scores.astype(">f4"), scores.astype("f2"), np.asfortranarray(scores), scores.tolist(), tensor,
                 tensor.to(torch.bfloat16), tensor.clone().requires_grad_()):  # fmt: skip
        for part, whole in zip(TRIE.select(same, START, NODES, depth=0, k=4), expected, strict=True):
            np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TRIE.select("x", START, NODES, depth=0, k=1), InvalidTypeError, "log_probs has a wrong dtype"),
        (lambda: TRIE.select(SCORES, START, NODES, depth=0, k=2**30), InvalidValueError, "k is too large: expected at"),
        (lambda: semid.trie.select_rows([1], SCORES, START, NODES, depth=0, k=1), InvalidTypeError, "tries have"),
        (lambda: semid.Trie.load(3), InvalidTypeError, "a path has a wrong type: expected a str or Path, got int"),
        (lambda: semid.Trie.load("a\0b"), InvalidValueError, "a path is wrong: expected no NUL in it"),
        (lambda: semid.Trie.from_sequences(3, end=1), InvalidTypeError, "sequences have a wrong type"),
        (lambda: semid.Trie.from_sequences([[2**70]], end=1), InvalidTypeError, "sequences hold something else"),
        (
            lambda: TRIE.mask_inplace(np.zeros((1, 9)), [0], depth=0, tokens=np.arange(8), neg_inf=[1]),
            InvalidTypeError, "neg_inf has a wrong type: expected a number, got list",
        ),
    ],
)  # fmt: skip
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()
