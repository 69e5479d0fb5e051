import copy
import functools
import re

import numpy as np
import pytest
import torch
from oracles import item_scores_oracle

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.probe import Abilities, abilities


def prompts_for(model, make_inputs, batch):
    return make_inputs(batch, side="right" if model.config.is_encoder_decoder else "left")


@pytest.mark.parametrize("batch", [1, 5])
def test_equal_to_teacher_forcing(any_model, trie, vocab, codes, make_inputs, batch):
    inputs = prompts_for(any_model, make_inputs, batch)
    exact = item_scores_oracle(any_model, inputs, vocab.to_tokens(codes).tolist())
    candidates = np.random.default_rng(0).integers(-1, len(codes), (batch, 100))  # with repetitions and gaps
    scores = semid.score_items(any_model, inputs, trie=trie, vocab=vocab, candidates=candidates)
    expected = np.where(candidates >= 0, np.take_along_axis(exact, np.maximum(candidates, 0), axis=1), -np.inf)
    assert scores.shape == (batch, 100) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_rows_of_different_lengths(model, trie, vocab, codes, make_inputs):
    inputs = prompts_for(model, make_inputs, 4)
    exact = item_scores_oracle(model, inputs, vocab.to_tokens(codes).tolist())
    candidates = [[7], {3, 4, 5}, torch.tensor([-1, 9]), []]
    scores = semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=candidates)
    expected = np.full((4, 3), -np.inf)
    expected[0, 0], expected[1], expected[2, 1] = exact[0, 7], exact[1, 3:6], exact[2, 9]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_scores_are_those_of_generate(any_model, trie, vocab, make_inputs):
    inputs = prompts_for(any_model, make_inputs, 3)
    found = semid.generate(any_model, inputs, trie=trie, vocab=vocab, num_beams=60)
    scores = semid.score_items(any_model, inputs, trie=trie, vocab=vocab, candidates=found.items)
    np.testing.assert_allclose(scores, found.scores, atol=1e-4)


def test_rows_with_tries_and_vocabularies_of_their_own(model, trie, vocab, codes, make_inputs):
    inputs = prompts_for(model, make_inputs, 2)
    other_vocab = semid.SidVocabulary.from_token_ids([range(48, 56), range(40, 48), range(56, 64)])
    other = semid.Trie.from_codes(codes[::2], codebook_sizes=(8, 8, 8))
    scores = semid.score_items(model, inputs, trie=[trie, other], vocab=[vocab, other_vocab], candidates=[[1, 2], [3]])
    exact = item_scores_oracle(model, inputs, vocab.to_tokens(codes).tolist())
    elsewhere = item_scores_oracle(model, inputs, other_vocab.to_tokens(codes[::2]).tolist())
    np.testing.assert_allclose(scores, [[exact[0, 1], exact[0, 2]], [elsewhere[1, 3], -np.inf]], atol=1e-4)


@pytest.mark.parametrize("n_levels", [1, 2])
def test_short_ids(model, make_inputs, n_levels):
    codes = np.unique(np.random.default_rng(0).integers(0, 6, (9, n_levels)), axis=0)
    trie = semid.Trie.from_codes(codes)
    vocab = semid.SidVocabulary.from_token_ids([range(40 + 6 * level, 46 + 6 * level) for level in range(n_levels)])
    inputs = prompts_for(model, make_inputs, 2)
    exact = item_scores_oracle(model, inputs, vocab.to_tokens(codes).tolist())
    candidates = np.tile(np.arange(len(codes)), (2, 1))
    scores = semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=candidates)
    np.testing.assert_allclose(scores, exact, atol=1e-4)


def test_a_decoder_reads_all_candidates_at_once(decoder_only, trie, vocab, make_inputs, monkeypatch):
    inputs = make_inputs(2)
    candidates = np.tile(np.arange(40), (2, 1))
    expected = semid.score_items(decoder_only, inputs, trie=trie, vocab=vocab, candidates=candidates)
    decoder, calls = decoder_only.get_decoder(), []
    forward = decoder.forward

    @functools.wraps(forward)  # its signature is asked for the name of the cache
    def recording(*args, **kwargs):
        calls.append((args[0] if args else kwargs["input_ids"]).shape)
        return forward(*args, **kwargs)

    monkeypatch.setattr(decoder, "forward", recording)
    abilities(decoder_only)  # trying them out reads a few tokens, once
    calls.clear()
    scores = semid.score_items(decoder_only, inputs, trie=trie, vocab=vocab, candidates=candidates)
    np.testing.assert_array_equal(scores, expected)
    nodes = [len({tuple(row[:depth]) for row in trie.codes_of(np.arange(40)).tolist()}) for depth in (1, 2)]
    assert calls == [(2, 9), (2, sum(nodes))]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_decoder_of_an_encoding_reads_all_candidates_at_once(
    encoder_decoder, trie, vocab, codes, make_inputs, monkeypatch, attention, shared
):
    """Each prefix of the last level's parents is a row; the second request has fewer."""
    model, inputs = copy.deepcopy(encoder_decoder), make_inputs(2, side="right")
    model.set_attn_implementation(attention)
    assert abilities(model) == Abilities(True, True, several=True)
    monkeypatch.setattr("semid.generation.probe.abilities", lambda *_, **__: Abilities(True, shared, several=True))
    decoder, calls = model.get_decoder(), []
    decoder.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    candidates = [range(40), [3, 49, 20]]
    scores = semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=candidates)
    n_paths = len({tuple(row[:2]) for row in codes[:40].tolist()})
    assert calls == [(2, 1), (2 * n_paths, 2)]
    exact = item_scores_oracle(model, inputs, vocab.to_tokens(codes).tolist())
    np.testing.assert_allclose(scores[0], exact[0, :40], atol=1e-4)
    np.testing.assert_allclose(scores[1, :3], exact[1, [3, 49, 20]], atol=1e-4)


@pytest.mark.parametrize(
    ("candidates", "error", "message"),
    [
        (
            [[1]],
            InvalidValueError,
            "candidates is wrong: expected 2 sequences of ranks, got 1 of shapes [(1,)]. Give one",
        ),
        ([[1], [99]], InvalidValueError, "candidates holds a rank out of range: expected 0 .. 49, got 99. Take"),
        ([[1], [0.5]], InvalidTypeError, "candidates has a wrong dtype: expected integers, got float64. Pass ranks"),
        (
            None,
            InvalidTypeError,
            "candidates are missing: expected ranks for each of 2 requests, got None. Give [] for a request without "
            "any; generate searches all items.",
        ),
        ([[1], None], InvalidTypeError, "candidates are missing: expected ranks for each of 2 requests, got None."),
        (3, InvalidTypeError, "candidates has a wrong type: expected 2 sequences of ranks, got 3. Give one sequence"),
        ([1, 2], InvalidValueError, "candidates is wrong: expected 2 sequences of ranks, got 2 of shapes [(), ()]."),
    ],
)
def test_wrong_candidates(model, trie, vocab, make_inputs, candidates, error, message):
    with pytest.raises(error, match=re.escape(message)):
        semid.score_items(model, make_inputs(2), trie=trie, vocab=vocab, candidates=candidates)


def test_candidates_may_be_read_once(model, trie, vocab, make_inputs):
    inputs = make_inputs(2)
    expected = semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=[[3, -1], [4, 5]])
    once = (iter(row) for row in ([3, -1], [4, 5]))
    found = semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=once)
    np.testing.assert_array_equal(found, expected)
