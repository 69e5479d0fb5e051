"""The beams level by level are those of semid.generate, and each of them tells what it can become."""

from itertools import pairwise

import pytest
import torch
from gensar.causal import CausalBackbone
from gensar.encoder_decoder import T5Backbone
from gensar.steps import beam_steps

import semid


@pytest.fixture(params=[CausalBackbone, T5Backbone], ids=["causal", "t5"])
def asked(request, teach, recipe, identifiers):
    """(model, prompt, trie, vocab) with two requests' worth of tokens in the prompt."""
    model, language = teach(request.param(recipe))
    prompt = [*language.rec_head, *language.id_tokens["recommendation"][7].tolist(), *language.search_heads[1]]
    return model.eval(), prompt, identifiers.sids.trie("semantic"), language.vocabs["semantic"]


@pytest.mark.parametrize("num_beams", [1, 5, 60])
def test_beams_are_those_of_generate(asked, num_beams):
    model, prompt, trie, vocab = asked
    exclude = [0, 3, 17, 18, 39]
    steps = beam_steps(model, prompt, trie=trie, vocab=vocab, num_beams=num_beams, exclude=exclude)
    inputs = {"input_ids": torch.tensor([prompt]), "attention_mask": torch.ones(1, len(prompt), dtype=torch.long)}
    out = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=num_beams, exclude=[exclude])
    n_valid = int(out.n_valid[0])
    assert [beam.ranks.start for beam in steps[-1]] == out.items[0, :n_valid].tolist()
    assert [beam.codes for beam in steps[-1]] == [tuple(codes) for codes in out.codes[0, :n_valid].tolist()]
    assert [beam.score for beam in steps[-1]] == pytest.approx(out.scores[0, :n_valid].tolist(), abs=1e-4)
    assert n_valid == min(num_beams, 35)


def test_a_beam_comes_from_its_parent_and_tells_its_items(asked):
    model, prompt, trie, vocab = asked
    steps = beam_steps(model, prompt, trie=trie, vocab=vocab, num_beams=6)
    assert len(steps) == trie.n_levels and all(beam.parent == 0 for beam in steps[0])
    for before, after in pairwise(steps):
        for beam in after:
            parent = before[beam.parent]
            assert beam.codes[:-1] == parent.codes and beam.score < parent.score
            assert set(beam.ranks) <= set(parent.ranks)
    for beams in steps:
        assert [beam.score for beam in beams] == sorted((beam.score for beam in beams), reverse=True)
        for beam in beams:
            starts = [tuple(codes) for codes in trie.codes_of(list(beam.ranks))[:, : len(beam.codes)].tolist()]
            assert starts and set(starts) == {beam.codes}
    assert all(len(beam.ranks) == 1 for beam in steps[-1])
