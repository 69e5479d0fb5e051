import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from semid.generation.generator import batches, bytes_per_token, padded
from tests.generation.conftest import tiny_model


@given(st.lists(st.integers(1, 600), max_size=60), st.integers(0, 300), st.integers(1, 5000))
def test_every_prompt_once_within_the_budget(lengths, extra, most_tokens):
    found = list(batches(lengths, extra=extra, most_tokens=most_tokens))
    assert sorted(row for batch in found for row in batch) == list(range(len(lengths)))
    for batch in found:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or len(batch) * (longest + extra) <= most_tokens
        assert 2 * min(lengths[row] for row in batch) >= longest
    longest_first = [max(lengths[row] for row in batch) for batch in found]
    assert longest_first == sorted(longest_first, reverse=True)


def test_no_batch_is_smaller_than_it_has_to_be():
    assert list(batches([4, 8, 5, 8, 3], extra=2, most_tokens=30)) == [[1, 3, 2], [0, 4]]


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("gpt2", 2 * 2 * 32), ("qwen2", 2 * 2 * 2 * 8), ("t5", 2 * 2 * 32)],
)
def test_bytes_of_a_token(kind, kept):
    """Keys and values of two layers, and less than a dozen states of 32 numbers."""
    n_bytes = bytes_per_token(tiny_model(kind))
    assert 4 * kept < n_bytes <= 4 * (kept + 12 * 32)


def test_padding_stands_where_the_model_wants_it():
    found = padded([[5], [6, 7, 8]], tiny_model("gpt2"))
    assert found["input_ids"].tolist() == [[0, 0, 5], [6, 7, 8]]
    assert found["attention_mask"].tolist() == [[0, 0, 1], [1, 1, 1]]
    found = padded([[5], [6, 7, 8]], tiny_model("t5"))
    assert found["input_ids"].tolist() == [[5, 0, 0], [6, 7, 8]]
    assert found["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert found["input_ids"].dtype == torch.int64
