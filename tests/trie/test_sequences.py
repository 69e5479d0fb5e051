"""IDs of different lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SHARED_FIXTURE

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie import pad_sequences

END = 9


@SHARED_FIXTURE
@given(
    sequences=st.lists(st.lists(st.integers(0, 8), max_size=5).map(tuple), min_size=1, max_size=30, unique=True),
)
def test_every_sequence_is_found_and_may_begin_another(backend, sequences):
    trie = semid.Trie.from_sequences(sequences, end=END)
    rows = pad_sequences(sequences, end=END, n_levels=trie.n_levels)
    assert sorted(trie.rank(rows).tolist()) == list(range(len(sequences)))
    for prefix in {sequence[:length] for sequence in sequences for length in range(len(sequence) + 1)}:
        following = {s[len(prefix)] for s in sequences if s[: len(prefix)] == prefix and len(s) > len(prefix)}
        following |= {END} if prefix in sequences else set()
        assert set(trie.children(prefix).tolist()) == following
    for sequence in sequences:
        if len(sequence) + 1 < trie.n_levels:
            assert trie.children((*sequence, END)).tolist() == [END]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: semid.Trie.from_sequences([], end=1), "sequences is empty: expected at least 1, got 0"),
        (lambda: semid.Trie.from_sequences([[2], [3, 1, 2]], end=1), r"got 1 in sequence 1\. Leave it out"),
        (lambda: pad_sequences([[2, 3]], end=1, n_levels=2), "expected at most 1 tokens and the end, got 2"),
    ],
)
def test_bad_sequences(call, message):
    with pytest.raises(InvalidValueError, match=message):
        call()


def test_negative_tokens_are_refused():
    with pytest.raises(InvalidValueError, match=r"expected 0 \.\. 4294967295, got -2 at row 0, level 0"):
        semid.Trie.from_sequences(np.array([[-2]]), end=1)


@pytest.mark.parametrize(
    ("sequences", "end", "message"),
    [
        ([[2.7]], 1, r"expected sequences of integers and an integer as end, got 'float' object .*\. Pass token ids"),
        ([[2]], 1.5, "got 'float' object"),
        (np.array([[2.0]]), 1, "got 'numpy.float64' object"),
        (["ab"], 1, "got 'str' object"),
        ([2], 1, r"got object of type 'int' has no len\(\)"),
    ],
)
def test_nothing_is_cut_off(sequences, end, message):
    with pytest.raises(InvalidTypeError, match=message):
        semid.Trie.from_sequences(sequences, end=end)


def test_rows_of_any_integers_and_a_generator(backend):
    sequences = [np.array([2, 300], np.uint16), (4,), [np.uint64(5), 7]]
    trie = semid.Trie.from_sequences((sequence for sequence in sequences), end=np.uint8(1))
    assert list(trie) == [(2, 300, 1), (4, 1, 1), (5, 7, 1)]
