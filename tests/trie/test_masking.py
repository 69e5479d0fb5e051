"""Masks over a vocabulary: scores and bits."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import alive_children_oracle, nodes_oracle
from strategies import SHARED_FIXTURE, tries

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie.masking import walk_tokens

CODES = np.array([[0, 2, 1], [0, 3, 0], [1, 2, 0], [1, 2, 5]], np.uint8)


@SHARED_FIXTURE
@given(
    catalogue=tries(),
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, np.uint16]),
    dead=st.sampled_from([0.0, 0.6]),
    gone=st.sampled_from([0.0, 0.6, 1.0]),
)
def test_masks_keep_only_children(backend, catalogue, seed, dtype, dead, gone):
    codes, sizes, build = catalogue
    trie, rng = build(), np.random.default_rng(seed)
    depth = int(rng.integers(0, len(sizes)))
    width = sizes[depth] + 70
    tokens = rng.permutation(width)[: sizes[depth]]  # in no order, with other tokens between
    known = sorted(nodes_oracle(codes, depth))
    prefixes = [known[i] for i in rng.integers(0, len(known), 6)]
    alive = set(np.flatnonzero(rng.random(len(codes)) >= dead).tolist())
    nodes = trie.walk(np.array(prefixes).reshape(6, depth))
    nodes[:2] = -1
    lost_token = [None, width - 1][seed % 2]
    scores = (100 * rng.random((6, width))).astype(dtype)
    bitmask = rng.integers(-(2**31), 2**31, (6, (width + 31) // 32), dtype=np.int32)
    neg_inf = 0xFF80 if dtype == np.uint16 else -np.inf
    scores[rng.random(scores.shape) < gone] = neg_inf
    keep = np.zeros((6, 32 * bitmask.shape[1]), bool)
    for row, prefix in enumerate(prefixes[2:], start=2):
        keep[row, tokens[sorted(alive_children_oracle(codes, alive, prefix))]] = True
    view = trie.restrict(sorted(alive))
    view.fill_bitmask(bitmask, nodes, depth=depth, tokens=tokens)
    assert (np.unpackbits(bitmask.view(np.uint8), bitorder="little").reshape(keep.shape) == keep).all()
    if lost_token is not None:
        keep[:2, lost_token] = True
    expected = np.where(keep[:, :width], scores, np.array(neg_inf, dtype))
    empty = view.mask_inplace(scores, nodes, depth=depth, tokens=tokens, lost_token=lost_token, neg_inf=neg_inf)
    assert (scores == expected).all()
    assert empty.dtype == np.bool_ and (empty == (expected == dtype(neg_inf)).all(axis=1)).all()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_scores_of_either_byte_order(backend, dtype):
    trie = semid.Trie.from_codes(CODES)
    for order in "<>":
        scores = np.arange(1, 10, dtype=order + dtype)[None]
        scores[0, 2] = -np.inf
        empty = trie.mask_inplace(scores, [0], depth=1, tokens=[1, 3, 2, 5])
        assert empty.tolist() == [False] and scores.tolist() == [[-np.inf] * 5 + [6.0] + [-np.inf] * 3]
        scores[0, 5] = -np.inf
        assert trie.mask_inplace(scores, [0], depth=1, tokens=[1, 3, 2, 5]).tolist() == [True]


@pytest.mark.parametrize("dtype", ["?", "c8", "c16", "g", "O", "U1", "M8[s]"])
def test_scores_that_no_kernel_masks_are_refused(backend, dtype):
    scores = np.zeros((1, 9)).astype(dtype)
    message = f"expected an array of float16, float32, float64 or their bits as integers, got {scores.dtype}. Convert"
    with pytest.raises(InvalidTypeError, match=re.escape(message)):
        semid.Trie.from_codes(CODES).mask_inplace(scores, [0], depth=1, tokens=range(4))


def test_bad_masks():
    trie = semid.Trie.from_codes(CODES)
    tokens = [0, 1, 2, 3]
    fixed = np.zeros((1, 9))
    fixed.setflags(write=False)
    cases = [
        (lambda: trie.mask_inplace(np.zeros((1, 2)), [0], depth=1, tokens=tokens), r"expected 4 columns below 2, got"),
        (lambda: trie.mask_inplace(np.zeros((1, 9)), [0], depth=1, tokens=[0]), r"expected 4 columns below 9, got"),
        (
            lambda: trie.mask_inplace(np.zeros((1, 9)), [0], depth=1, tokens=tokens, lost_token=9),
            "lost_token does not fit: expected a column below 9, got 9. Has the model been resized",
        ),
        (
            lambda: trie.mask_inplace(np.zeros((1, 9)), [0], depth=1, tokens=tokens, lost_token=-1),
            "expected a column below 9, got -1",
        ),
        (lambda: trie.mask_inplace(np.zeros((2, 9)), [0], depth=1, tokens=tokens), r"expected \(1, vocabulary\), got"),
        (lambda: trie.mask_inplace(np.zeros((9, 1)).T[:, ::2], [0], depth=1, tokens=tokens), "in C order, got strides"),
        (lambda: trie.mask_inplace(fixed, [0], depth=1, tokens=tokens), "expected a writable .* writeable=False"),
        (
            lambda: trie.mask_inplace(np.zeros((1, 9), np.uint16), [0], depth=1, tokens=tokens),
            r"expected an integer that uint16 holds, got -inf\. Pass the bits of minus infinity",
        ),
        (
            lambda: trie.mask_inplace(np.zeros((1, 9), np.int16), [0], depth=1, tokens=tokens, neg_inf=0xFF80),
            "expected an integer that int16 holds, got 65408",
        ),
        (lambda: trie.fill_bitmask(np.zeros((2, 1), np.int32), [0], depth=1, tokens=tokens), r"expected \(1, words\)"),
        (lambda: trie.fill_bitmask(np.zeros((1, 0), np.int32), [0], depth=1, tokens=tokens), r"4 columns below 0, got"),
    ]
    for call, message in cases:
        with pytest.raises(InvalidValueError, match=message):
            call()
    with pytest.raises(InvalidTypeError, match=r"their bits as integers, got list\. Convert them"):
        trie.mask_inplace([[0.0] * 9], [0], depth=1, tokens=tokens)
    with pytest.raises(InvalidTypeError, match="tokens has a wrong dtype: expected integers, got float64"):
        trie.mask_inplace(np.zeros((1, 9)), [0], depth=1, tokens=[0.5, 1, 2, 3])
    with pytest.raises(InvalidTypeError, match=r"lost_token has a wrong type: expected an integer, got 1\.5"):
        trie.mask_inplace(np.zeros((1, 9)), [0], depth=1, tokens=tokens, lost_token=1.5)
    with pytest.raises(InvalidTypeError, match="expected an int32 array, got int64"):
        trie.fill_bitmask(np.zeros((1, 1), np.int64), [0], depth=1, tokens=tokens)


@SHARED_FIXTURE
@given(catalogue=tries(), seed=st.integers(0, 2**16), prompt_len=st.integers(0, 3), larger=st.integers(0, 3))
def test_the_same_nodes_as_by_way_of_the_codes(backend, catalogue, seed, prompt_len, larger):
    """A vocabulary may have more codes than the trie; rows have words and the tokens of other levels."""
    codes, sizes, build = catalogue
    trie, rng = build(), np.random.default_rng(seed)
    starts = np.cumsum([7, *(2 * size + larger for size in sizes)])
    levels = [
        start + rng.permutation(2 * size + larger)[: size + larger] for start, size in zip(starts, sizes, strict=False)
    ]
    vocab = semid.SidVocabulary.from_token_ids(levels)
    depth = int(rng.integers(0, len(sizes) + 1))
    rows = vocab.to_tokens(codes[rng.integers(0, len(codes), 9)])[:, :depth]
    rows = np.where(rng.random(rows.shape) < 0.2, rng.integers(-3, starts[-1] + 3, rows.shape), rows)
    token_ids = np.concatenate([rng.integers(0, 99, (9, prompt_len)), rows], axis=1)
    expected = trie.walk(vocab.to_codes(rows, errors="ignore"))
    assert (walk_tokens(trie._levels, trie._alive, token_ids, prompt_len, vocab.tables) == expected).all()
    assert (
        walk_tokens(trie._levels, trie._alive, np.asfortranarray(token_ids), prompt_len, vocab.tables) == expected
    ).all()
