import re
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Qwen2Config, Qwen2ForCausalLM

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.generator import batches, bytes_per_token, padded
from tests.generation.conftest import tiny_model


@pytest.fixture(params=["gpt2", "qwen2", "t5"])
def model(request):
    return tiny_model(request.param)


@pytest.fixture
def prompts():
    rng = np.random.default_rng(5)
    return [rng.integers(3, 40, length).tolist() for length in (3, 17, 1, 9, 8, 17, 2, 5)]


def assert_same(found, expected):
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.n_valid, expected.n_valid)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.parametrize("normalize", ["full", "window"])
def test_equal_to_generate(model, trie, vocab, codes, make_inputs, normalize):
    generator = semid.Generator(model, trie=trie, vocab=vocab, num_beams=7, normalize=normalize, num_return=4)
    options = dict(vocab=vocab, num_beams=7, normalize=normalize, num_return=4)
    half = semid.Trie.from_codes(codes[::2], codebook_sizes=(8, 8, 8))
    for seed, arguments in enumerate([
        {}, {"trie": half}, {"trie": [trie, half, trie]}, {"exclude": [[0, 1], None, range(50)]},
        {"candidates": [[5, 6, 30], None, []]},
    ]):  # fmt: skip
        inputs = make_inputs(3, seed=seed)
        expected = semid.generate(model, inputs, **{"trie": trie, **options, **arguments})
        assert_same(generator.generate(inputs, **arguments), expected)


@pytest.mark.parametrize("tokens", [30, 80, 10_000])  # one prompt at a time, a few, all of like length
def test_many_prompts_equal_one_by_one(model, trie, vocab, prompts, monkeypatch, tokens):
    memory_mib = 1
    monkeypatch.setattr("semid.generation.generator.bytes_per_token", lambda model: 2**20 // tokens)
    generator = semid.Generator(model, trie=trie, vocab=vocab, num_beams=6, memory_mib=memory_mib)
    exclude = [[row] if row % 2 else None for row in range(len(prompts))]
    candidates = [None if row % 3 else range(row, 40) for row in range(len(prompts))]
    found = generator.generate_many(prompts, exclude=exclude, candidates=candidates)
    assert found.items.shape == (len(prompts), 6)
    for row, prompt in enumerate(prompts):
        alone = generator.generate(
            {"input_ids": torch.tensor([prompt])}, exclude=exclude[row : row + 1], candidates=candidates[row : row + 1]
        )
        assert_same(type(found)(*(None if field is None else field[row : row + 1] for field in found)), alone)


def test_prompts_may_be_arrays(model, trie, vocab, prompts):
    generator = semid.Generator(model, trie=trie, vocab=vocab, num_beams=3)
    expected = generator.generate_many(prompts)
    assert_same(generator.generate_many([np.array(prompt) for prompt in prompts]), expected)
    assert_same(generator.generate_many([torch.tensor(prompt) for prompt in prompts]), expected)
    assert_same(generator.generate_many(prompt for prompt in prompts), expected)


def test_threads_may_share_a_generator(model, trie, vocab, make_inputs):
    generator = semid.Generator(model, trie=trie, vocab=vocab, num_beams=8)
    inputs = [make_inputs(2, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(generator.generate, inputs))
    for one, found in zip(inputs, together, strict=True):
        assert_same(found, generator.generate(one))


class Largest(TorchDispatchMode):
    """Notes the largest array that torch makes, those that belong to a model left out."""

    def __init__(self, model):
        super().__init__()
        self.owned = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        self.n_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor) and one.untyped_storage().data_ptr() not in self.owned:
                self.n_bytes = max(self.n_bytes, one.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("normalize", ["full", "window", "allowed"])
def test_no_request_takes_memory_of_vocabulary_size(trie, vocab, make_inputs, normalize):
    n_tokens = 300_000
    config = Qwen2Config(vocab_size=n_tokens, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=2)  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    generator = semid.Generator(model, trie=trie, vocab=vocab, num_beams=20, normalize=normalize)
    with Largest(model) as largest:
        generator.generate(make_inputs(2))
    assert 1_000 < largest.n_bytes < 4 * n_tokens


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_beams": 0}, InvalidValueError, "num_beams is too small: expected 1 or more, got 0"),
        ({"num_return": 4}, InvalidValueError, r"num_return is too large: expected at most 3, got 4"),
        ({"memory_mib": 0}, InvalidValueError, "memory_mib is too small: expected 1 or more, got 0. Give the"),
        (
            {"memory_mib": 0.5},
            InvalidTypeError,
            r"memory_mib is not an integer: expected 1 or more, got 0\.5\. Give the MiB that the caches of a batch may",
        ),
        ({"normalize": "no"}, InvalidValueError, "normalize is unknown"),
        ({"trie": None}, InvalidTypeError, r"trie has a wrong type: expected one semid\.Trie, got NoneType"),
        ({"vocab": None}, InvalidTypeError, r"vocab has a wrong type: expected a semid\.SidVocabulary, got NoneType"),
    ],
)
def test_wrong_arguments(model, trie, vocab, arguments, error, message):
    with pytest.raises(error, match=message):
        semid.Generator(model, **{"trie": trie, "vocab": vocab, "num_beams": 3, **arguments})


def test_wrong_prompts(model, trie, vocab):
    generator = semid.Generator(model, trie=trie, vocab=vocab, num_beams=3)
    with pytest.raises(
        InvalidValueError, match=r"prompts are wrong: expected at least one prompt and none empty, got 0"
    ):
        generator.generate_many([])
    with pytest.raises(InvalidValueError, match=r"got 2, the shortest of 0 tokens\. Leave empty ones out"):
        generator.generate_many([[3], []])
    with pytest.raises(InvalidValueError, match=r"exclude has a wrong length: expected 2, got 1\. Give one per prompt"):
        generator.generate_many([[3], [4]], exclude=[None])
    with pytest.raises(
        InvalidTypeError, match=r"exclude has a wrong type: expected a sequence of 1, got int\. Give one"
    ):
        generator.generate_many([[3]], exclude=3)
    with pytest.raises(InvalidTypeError, match=r"candidates has a wrong type: expected a sequence of 1, got ndarray\."):
        generator.generate_many([[3]], candidates=np.array(3))


REMEDY = "Pass what the tokenizer returns as input_ids, without padding."


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (None, "prompts have a wrong type: expected sequences of token ids, got NoneType."),
        ("ab", "prompts have a wrong type: expected sequences of token ids, got str."),
        ({"input_ids": [[3]]}, "prompts have a wrong type: expected sequences of token ids, got dict."),
        (torch.tensor(3), "prompts have a wrong type: expected sequences of token ids, got Tensor."),
        ([[3], "ab"], "prompt 1 is wrong: expected a sequence of token ids, got <U2 of shape ()."),
        ([[3, 1.5]], "prompt 0 is wrong: expected a sequence of token ids, got float64 of shape (2,)."),
        ([[True]], "prompt 0 is wrong: expected a sequence of token ids, got bool of shape (1,)."),
        ([5], "prompt 0 is wrong: expected a sequence of token ids, got int64 of shape ()."),
        ([torch.tensor([[3, 4]])], "prompt 0 is wrong: expected a sequence of token ids, got int64 of shape (1, 2)."),
        ([[3, [4]]], "prompt 0 is wrong: expected a sequence of token ids, got list."),
    ],
)
def test_prompts_that_are_no_tokens(model, trie, vocab, prompts, message):
    generator = semid.Generator(model, trie=trie, vocab=vocab, num_beams=3)
    with pytest.raises(InvalidTypeError, match=re.escape(f"{message} {REMEDY}")):
        generator.generate_many(prompts)


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
