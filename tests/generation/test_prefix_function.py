"""The prefix function allows what the processor allows, request by request."""

import numpy as np
import pytest
import torch
from oracles import allowed_tokens_oracle
from transformers import LogitsProcessorList

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from tests.generation.conftest import SAMPLES_SHARE_REQUESTS


@pytest.fixture
def token_rows(codes, vocab):
    return vocab.to_tokens(codes).tolist()


def prompts_and_prefixes(token_rows, depth, n_rows=8):
    """Prompts followed by prefixes of items, one of none, one that ended."""
    chosen = np.random.default_rng(depth).integers(0, len(token_rows), n_rows)
    rows = [[5, 3, *token_rows[row][:depth]] for row in chosen]
    if depth:
        rows[1][2] = 7  # a word
        rows[2][-1] = 1
    return torch.tensor(rows)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_what_may_follow(trie, vocab, token_rows, depth):
    function = semid.prefix_allowed_tokens_fn(trie, vocab, prompt_len=2)
    for batch_id, row in enumerate(prompts_and_prefixes(token_rows, depth)):
        assert sorted(function(batch_id, row)) == sorted(allowed_tokens_oracle(token_rows, row[2:].tolist(), 1))


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_trie_for_each_request(trie, vocab, codes, token_rows, depth):
    tries = [trie, semid.Trie.from_codes(codes[::2]), trie.restrict(np.arange(5, 20))]
    kept = [token_rows, token_rows[::2], token_rows[5:20]]
    function = semid.prefix_allowed_tokens_fn(tries, vocab, prompt_len=2)
    for row in prompts_and_prefixes(token_rows, depth):
        for batch_id in range(3):
            expected = allowed_tokens_oracle(kept[batch_id], row[2:].tolist(), 1)
            assert sorted(function(batch_id, row)) == sorted(expected)


def test_end_token(trie, vocab, token_rows):
    no_end = semid.SidVocabulary.from_token_ids(vocab.level_tokens)
    function = semid.prefix_allowed_tokens_fn(trie, no_end, prompt_len=2)
    with pytest.raises(InvalidValueError, match="nothing may follow: expected an end token, got none"):
        function(0, prompts_and_prefixes(token_rows, 3)[0])
    # A lost row gets one token of the level, so that beams that hold no item cannot stop the others.
    assert function(0, prompts_and_prefixes(token_rows, 2)[1]) == [int(vocab.level_tokens[2][0])]
    ending = semid.prefix_allowed_tokens_fn(trie, no_end, prompt_len=2, eos_token_id=9)
    assert ending(0, prompts_and_prefixes(token_rows, 3)[0]) == [9]


def test_requests_without_a_trie(trie, vocab):
    function = semid.prefix_allowed_tokens_fn([trie, trie], vocab, prompt_len=0)
    with pytest.raises(InvalidValueError, match=r"a request has no trie: expected batch ids below 2, got 2\. Give one"):
        function(2, torch.empty(0, dtype=torch.long))
    with pytest.raises(InvalidTypeError, match=r"trie has a wrong type: expected one semid\.Trie, got NoneType"):
        semid.prefix_allowed_tokens_fn([trie, None], vocab, prompt_len=0)


WAYS = {"greedy": dict(do_sample=False), "beams": dict(num_beams=6, num_return_sequences=6)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n_tries", [1, 3])
def test_generate_returns_what_the_processor_lets_it_return(model, trie, vocab, make_inputs, prompt_len, way, n_tries):
    inputs = make_inputs(3)
    start = prompt_len(model, inputs)
    tries = trie if n_tries == 1 else [trie, trie.restrict(np.arange(0, 50, 2)), trie.restrict(np.arange(5, 20))]
    function = semid.prefix_allowed_tokens_fn(tries, vocab, prompt_len=start)
    processor = semid.SidLogitsProcessor(tries, vocab, prompt_len=start)
    one = model.generate(**inputs, prefix_allowed_tokens_fn=function, max_new_tokens=8, **WAYS[way])
    two = model.generate(**inputs, logits_processor=LogitsProcessorList([processor]), max_new_tokens=8, **WAYS[way])
    assert torch.equal(one, two)


@pytest.mark.skipif(SAMPLES_SHARE_REQUESTS, reason="since 5.24, generate knows which samples are of one request")
def test_samples_of_a_request_are_not_taken_for_other_requests(model, trie, vocab, make_inputs, prompt_len):
    inputs = make_inputs(2)
    function = semid.prefix_allowed_tokens_fn([trie, trie], vocab, prompt_len=prompt_len(model, inputs))
    with pytest.raises(InvalidValueError, match="each of num_return_sequences without beams is one"):
        model.generate(
            **inputs, prefix_allowed_tokens_fn=function, max_new_tokens=3, do_sample=True, num_return_sequences=2
        )
