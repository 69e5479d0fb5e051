import re

import numpy as np
import pytest
import torch

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation import BeamOutput, read_beams


@pytest.fixture
def small():
    return semid.Trie.from_codes([[0, 1], [0, 2], [1, 0]])


@pytest.fixture
def tokens():
    return semid.SidVocabulary.from_token_ids([[10, 11], [20, 21, 22]], eos_token_id=1)


SEQUENCES = [
    [5, 11, 20, 1],  # rank 2
    [5, 10, 22, 1],  # rank 1
    [5, 11, 20, 1],  # again
    [5, 10, 20, 1],  # no item
    [5, 1, 0, 0],  # nothing
    [5, 10, 21, 1],  # rank 0
]


@pytest.mark.parametrize("as_tensor", [True, False])
def test_what_is_no_item_goes(small, tokens, as_tensor):
    sequences, scores = torch.tensor(SEQUENCES), torch.tensor([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0])
    if not as_tensor:
        sequences, scores = SEQUENCES, scores.tolist()
    out = read_beams(sequences, trie=small, vocab=tokens, prompt_len=1, num_return=3, scores=scores)
    assert out.items.tolist() == [[2, 1, -1], [0, -1, -1]]
    assert out.codes.tolist() == [[[1, 0], [0, 2], [-1, -1]], [[0, 1], [-1, -1], [-1, -1]]]
    assert out.scores.tolist() == [[-1, -2, -np.inf], [-6, -np.inf, -np.inf]]
    assert out.n_valid.tolist() == [2, 1]
    dtypes = (np.int64, np.int64, np.float32, np.int64)
    assert tuple(array.dtype for array in out[:4]) == dtypes


def test_without_scores(small, tokens):
    out = read_beams(SEQUENCES, trie=small, vocab=tokens, prompt_len=1, num_return=6)
    assert out.items.tolist() == [[2, 1, 0, -1, -1, -1]]
    assert out.scores.tolist() == [[0, 0, 0, -np.inf, -np.inf, -np.inf]]


def test_dead_beams_go(small, tokens):
    scores = torch.tensor([-torch.inf, -2.0, -3.0], dtype=torch.bfloat16)
    out = read_beams(SEQUENCES[:3], trie=small, vocab=tokens, prompt_len=1, num_return=3, scores=scores)
    assert out.items.tolist() == [[1, 2, -1]]


def test_answers_that_end_early(small, tokens):
    out = read_beams([[5, 1], [5, 1]], trie=small, vocab=tokens, prompt_len=1)
    assert out.items.tolist() == [[-1], [-1]] and out.n_valid.tolist() == [0, 0]


def test_wrong_shapes(small, tokens):
    message = r"sequences have a wrong shape: expected \(batch \* 4, length\), got \(6, 4\)\. Pass num_return_sequences"
    with pytest.raises(InvalidValueError, match=message):
        read_beams(SEQUENCES, trie=small, vocab=tokens, prompt_len=1, num_return=4)
    with pytest.raises(InvalidValueError, match=r"scores have a wrong shape: expected \(6,\), got \(2,\)\. Pass sequ"):
        read_beams(SEQUENCES, trie=small, vocab=tokens, prompt_len=1, scores=[0.0, 0.0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            dict(prompt_len=-3),
            InvalidValueError,
            "prompt_len is too small: expected 0 or more, got -3. Pass input_ids.",
        ),
        (dict(prompt_len=1.0), InvalidTypeError, "prompt_len is not an integer: expected 0 or more, got 1.0. Pass inp"),
        (
            dict(prompt_len=5),
            InvalidValueError,
            "prompt_len is too large: expected at most 4, got 5. It is the padded length of the prompt, or 1 for an ",
        ),
        (dict(trie=3), InvalidTypeError, "trie has a wrong type: expected one semid.Trie, got int. Build it with"),
        (dict(vocab="sid"), InvalidTypeError, "vocab has a wrong type: expected a semid.SidVocabulary, got str. Make"),
        (
            dict(scores=["a"] * 6),
            InvalidTypeError,
            "scores have a wrong type: expected numbers in rows of one length, got list. Pass the sequences_scores",
        ),
        (dict(num_return=0), InvalidValueError, "num_return is too small: expected 1 or more, got 0. Pass num_retu"),
        (
            dict(num_return=None),
            InvalidTypeError,
            "num_return is not an integer: expected 1 or more, got None. Pass nu",
        ),
    ],
)
def test_wrong_arguments(small, tokens, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        read_beams(SEQUENCES, **dict(trie=small, vocab=tokens, prompt_len=1) | arguments)


@pytest.mark.parametrize("sequences", [None, [[1], [2, 3]], "ab", [[True, False]]])
def test_sequences_that_are_no_numbers(small, tokens, sequences):
    message = "sequences have a wrong type: expected numbers in rows of one length, got .* Pass the sequences that gen"
    with pytest.raises(InvalidTypeError, match=message):
        read_beams(sequences, trie=small, vocab=tokens, prompt_len=1)


@pytest.mark.parametrize("prompt_len", [0, 2, 4])
def test_a_wrong_length_finds_nothing(small, tokens, prompt_len):
    out = read_beams([[5, 11, 20, 1], [6, 10, 22, 1]], trie=small, vocab=tokens, prompt_len=prompt_len)
    assert out.n_valid.tolist() == [0, 0]


def test_fields():
    assert BeamOutput._fields == ("items", "codes", "scores", "n_valid", "outside")
