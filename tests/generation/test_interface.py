"""What happens when transformers changes a name or a meaning: the same items by a slower way, or an error."""

import copy
import inspect
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import item_scores_oracle
from packaging.version import Version
from transformers import (
    MambaConfig,
    MambaForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    Qwen2ForCausalLM,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
    T5ForConditionalGeneration,
)

import semid
from semid.errors import InvalidValueError
from semid.generation import interface
from semid.generation.probe import PLAIN, Abilities, abilities
from tests.generation.conftest import CACHE, SPECIAL, build, tiny_model


def renamed(name, new, *, drop=False):
    """Return a class of Qwen2 whose forward pass calls an argument otherwise, or takes and ignores it."""

    class Changed(Qwen2ForCausalLM):
        def forward(self, *args, **kwargs):
            value = kwargs.pop(new, None)
            if not drop and value is not None:
                kwargs[name] = value
            return super().forward(*args, **kwargs)

    signature = inspect.signature(Qwen2ForCausalLM.forward)
    parameters = [one.replace(name=new) if one.name == name else one for one in signature.parameters.values()]
    Changed.forward.__signature__ = signature.replace(parameters=parameters)
    return Changed


class AnswersUnderAnotherName(Qwen2ForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        cache = output.pop(CACHE, None) if CACHE in output else None
        logits = output.logits
        return type("Output", (), {"logits": logits, "memory": cache})()


class DecoderUnderAnotherName(Qwen2ForCausalLM):
    get_decoder = property()  # an AttributeError for whoever asks


class DecoderOfSomethingElse(Qwen2ForCausalLM):
    def get_decoder(self):
        return self


CHANGES = {
    "the cache's argument": (renamed(CACHE, "memory"), PLAIN),
    "the cache is ignored": (renamed(CACHE, CACHE, drop=True), PLAIN),
    "the cache's output": (AnswersUnderAnotherName, PLAIN),
    "the positions' argument": (renamed("position_ids", "places"), None),  # distances alone count here
    "the decoder's name": (DecoderUnderAnotherName, None),
    "the decoder is something else": (DecoderOfSomethingElse, None),
    "logits_to_keep": (renamed("logits_to_keep", "n_logits"), Abilities(split=True, shared=True, several=True)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_interface_never_changes_the_items(change, trie, vocab, codes, make_inputs, caplog):
    kind, expected = CHANGES[change]
    model = copy.deepcopy(tiny_model("qwen2"))
    model.__class__ = kind
    inputs = make_inputs(3)
    exact = item_scores_oracle(tiny_model("qwen2"), inputs, vocab.to_tokens(codes).tolist())
    with caplog.at_level(logging.WARNING, logger="semid"):
        found = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=60)
        scores = semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=[range(len(codes))] * 3)
    assert expected is None or abilities(model) == expected
    np.testing.assert_allclose(scores, exact, atol=1e-4)
    np.testing.assert_array_equal(found.items[:, : len(codes)], np.argsort(-exact, axis=1))
    np.testing.assert_allclose(found.scores[:, : len(codes)], -np.sort(-exact, axis=1), atol=1e-4)
    slow = re.search(r"cannot be run with its cache: .* at each step, which is right but slow", caplog.text)
    assert bool(slow) == (abilities(model) == PLAIN)


def test_a_decoder_of_an_encoding_whose_cache_has_another_name(trie, vocab, codes, make_inputs):
    class Changed(T5ForConditionalGeneration):
        def forward(self, *args, memory=None, **kwargs):
            return super().forward(*args, **kwargs)

    signature = inspect.signature(T5ForConditionalGeneration.forward)
    parameters = [one.replace(name="memory") if one.name == CACHE else one for one in signature.parameters.values()]
    Changed.forward.__signature__ = signature.replace(parameters=parameters)
    model, inputs = copy.deepcopy(tiny_model("t5")), make_inputs(3, side="right")
    model.__class__ = Changed
    assert abilities(model) == PLAIN
    exact = item_scores_oracle(tiny_model("t5"), inputs, vocab.to_tokens(codes).tolist())
    found = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=60)
    np.testing.assert_allclose(found.scores[:, : len(codes)], -np.sort(-exact, axis=1), atol=1e-4)


WITHOUT_A_SHARED_CACHE = {
    "mamba": lambda: MambaForCausalLM(MambaConfig(vocab_size=70, hidden_size=32, num_hidden_layers=2, state_size=8)),
    "openai-gpt": lambda: OpenAIGPTLMHeadModel(
        OpenAIGPTConfig(vocab_size=70, n_embd=32, n_layer=2, n_head=4, n_positions=64, **SPECIAL)
    ),
    "recurrent-gemma": lambda: RecurrentGemmaForCausalLM(
        RecurrentGemmaConfig(vocab_size=70, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
                             num_attention_heads=4, lru_width=32, attention_window_size=8, **SPECIAL)
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WITHOUT_A_SHARED_CACHE)
def test_models_without_a_cache_that_beams_can_share(kind, trie, vocab, codes, make_inputs):
    torch.manual_seed(0)
    model, inputs = WITHOUT_A_SHARED_CACHE[kind]().eval(), make_inputs(3)
    exact = item_scores_oracle(model, inputs, vocab.to_tokens(codes).tolist())
    found = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=60)
    scores = semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=found.items)
    expected = np.take_along_axis(exact, np.maximum(found.items, 0), axis=1)
    np.testing.assert_allclose(found.scores[:, : len(codes)], expected[:, : len(codes)], atol=1e-4)
    np.testing.assert_allclose(scores, found.scores, atol=1e-4)


def test_logits_of_all_positions_are_read_in_parts(trie, vocab, make_inputs, monkeypatch):
    model = copy.deepcopy(tiny_model("qwen2"))
    model.__class__ = renamed("logits_to_keep", "n_logits")
    monkeypatch.setattr("semid.generation.probe.abilities", lambda *_, **__: PLAIN)
    expected = semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=7)
    monkeypatch.setattr("semid.generation.decoders.MOST_LOGITS", 70 * 12 * 2)  # two rows at a time
    found = semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=7)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_a_forward_pass_without_a_cache():
    message = "Linear takes no cache: expected an argument named one of ('cache', 'past_key_values', 'cache_params'),"
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        interface.cache_name(["input"], torch.nn.Linear(1, 1))


def test_every_family_here_goes_the_fast_way(any_model):
    """A changed name would be right and slow; this is where it is noticed."""
    assert abilities(any_model) == Abilities(split=True, shared=any_model.config.model_type != "bloom", several=True)


@pytest.mark.parametrize(("installed", "said"), [("99.1", 1), (interface.TESTED, 0), ("5.0.0", 0)])
def test_a_newer_transformers_is_said_once(installed, said, trie, vocab, make_inputs, monkeypatch, caplog):
    monkeypatch.setattr(interface, "INSTALLED", Version(installed))
    interface.note_version.cache_clear()
    with caplog.at_level(logging.WARNING, logger="semid"):
        for _ in range(2):
            semid.generate(build("gpt2").eval(), make_inputs(1), trie=trie, vocab=vocab, num_beams=2)
    assert caplog.text.count(f"transformers {installed} is newer than {interface.TESTED}, the newest version") == said
    interface.note_version.cache_clear()


def test_the_tested_version_is_the_pinned_one():
    """CONTRIBUTING says how both are raised."""
    root = Path(__file__).parents[2]
    assert f"transformers=={interface.TESTED}\n" in (root / "constraints.txt").read_text()
    assert f"| {interface.TESTED} | pass" in (root / "docs/compatibility.md").read_text()
