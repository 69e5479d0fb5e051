"""What is found out about a model: for the state that it is in, and for texts as long as those that come."""

import copy
import functools
import logging

import numpy as np
import pytest
import torch
import transformers
from oracles import item_scores_oracle
from packaging.version import Version
from transformers import (
    FSMTConfig,
    FSMTForConditionalGeneration,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

import semid
from semid.errors import InvalidValueError
from semid.generation import interface, read_beams
from semid.generation.head import linear
from semid.generation.probe import PLAIN, abilities, state_of
from tests.generation.conftest import LAYERS, SPECIAL, VERSION, tiny_model

WINDOW = 16


def strong(model, *, std=0.2, seed=0):
    """Weights large enough that a token more or less in a window is seen in the scores."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * std)
    return model.eval()


def gpt_neo():
    return GPTNeoForCausalLM(
        GPTNeoConfig(
            vocab_size=70,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            max_position_embeddings=128,
            window_size=WINDOW,
            **SPECIAL,
        )
    )


def llama4():
    if not hasattr(transformers, "Llama4TextConfig"):
        pytest.skip("this transformers has no Llama 4")
    config = transformers.Llama4TextConfig(**LAYERS, num_key_value_heads=2, head_dim=8, intermediate_size_mlp=48,
                                           num_local_experts=2, attention_chunk_size=WINDOW, no_rope_layers=[1, 0],
                                           max_position_embeddings=128, **SPECIAL)  # fmt: skip
    return transformers.Llama4ForCausalLM(config)


@pytest.mark.parametrize("length", [5, WINDOW - 2, WINDOW, 3 * WINDOW])
@pytest.mark.parametrize("make", [gpt_neo, llama4], ids=["windows by columns", "chunks"])
def test_layers_that_reach_less_far_than_their_mask(make, length, trie, vocab, codes, make_inputs):
    """More beams than the window has columns, so that beams in one row would push the prompt out of it."""
    model, inputs = strong(make()), make_inputs(2, length=length, ragged=False)
    exact = item_scores_oracle(model, inputs, vocab.to_tokens(codes).tolist())
    found = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=len(codes))
    assert not abilities(model, length + 3).shared
    np.testing.assert_allclose(found.scores, np.take_along_axis(exact, found.items, axis=1), atol=1e-3)
    scores = semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=[range(len(codes))] * 2)
    np.testing.assert_allclose(scores, exact, atol=1e-3)


def test_a_cache_that_is_wrong_beyond_a_window(trie, vocab, codes, make_inputs, caplog):
    """Such a model is fast where its cache is right, and right everywhere."""

    model = strong(LlamaForCausalLM(LlamaConfig(**LAYERS, **SPECIAL)), std=0.3)
    model.config.attention_window = WINDOW

    def forget(module, args, kwargs, output):
        cache = interface.cache_of(module, output) if kwargs.get("use_cache") else None
        if cache is not None and cache.get_seq_length() > kwargs["input_ids"].shape[1] + WINDOW:
            output.last_hidden_state = -output.last_hidden_state
        return output

    model.model.register_forward_hook(forget, with_kwargs=True)
    short, long = make_inputs(1, length=6, ragged=False), make_inputs(1, length=2 * WINDOW, ragged=False)
    with caplog.at_level(logging.WARNING, logger="semid"):
        for inputs in (short, long):
            exact = item_scores_oracle(model, inputs, vocab.to_tokens(codes).tolist())
            scores = semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=[range(len(codes))])
            np.testing.assert_allclose(scores, exact, atol=1e-3)
    assert abilities(model, 9).cached and abilities(model, 2 * WINDOW + 3) == PLAIN
    assert "texts of more than 16 tokens: other logits come out than without it" in caplog.text


def test_lengths_are_read_off_the_settings():
    rope = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 32}
    config = LlamaConfig(**LAYERS, max_position_embeddings=64, rope_parameters=rope, sliding_window=8, chunk=99)
    config.num_local_experts = 4
    config.local_flag, config._attention_window = True, 12
    assert interface.reaches(LlamaForCausalLM(config)) == [8, 12, 32]


@pytest.mark.parametrize("length", [29, 30, 31, 32, 40])
def test_positions_that_change_their_scale_at_a_length(length, trie, vocab, make_inputs):
    """`model.generate` throws its cache away where a text outgrows the first training's positions.

    Some releases before transformers 5.20 then read the last token alone.
    """
    if length in {31, 32} and VERSION < Version("5.20"):
        pytest.skip("model.generate is wrong there")
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4,
            "original_max_position_embeddings": 32}  # fmt: skip
    config = Phi3Config(**LAYERS, num_key_value_heads=2, max_position_embeddings=128, rope_parameters=rope,
                        original_max_position_embeddings=32, **SPECIAL)  # fmt: skip
    model, inputs = strong(Phi3ForCausalLM(config)), make_inputs(2, length=length, ragged=False)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=length)
    sequences = model.generate(
        **inputs, num_beams=5, num_return_sequences=5, max_new_tokens=3, length_penalty=0.0,
        logits_processor=[processor], return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    expected = read_beams(sequences.sequences, trie=trie, vocab=vocab, prompt_len=length, num_return=5,
                                scores=sequences.sequences_scores)  # fmt: skip
    found = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=5)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_a_decoder_that_reads_one_token_at_a_time(trie, vocab, codes, make_inputs):
    """FSMT's decoder counts positions from 0 in every pass of several tokens."""
    sides = {f"{side}_{name}": size for side in ("encoder", "decoder")
             for name, size in dict(layers=2, attention_heads=4, ffn_dim=48).items()}  # fmt: skip
    config = FSMTConfig(langs=["en", "de"], src_vocab_size=70, tgt_vocab_size=70, d_model=32, decoder_start_token_id=2,
                        forced_eos_token_id=None, **sides, **SPECIAL)  # fmt: skip
    model, inputs = strong(FSMTForConditionalGeneration(config)), make_inputs(2, side="right")
    scores = semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=[range(len(codes))] * 2)
    assert not abilities(model).several
    exact = item_scores_oracle(model, inputs, vocab.to_tokens(codes).tolist(), double=False)
    np.testing.assert_allclose(scores, exact, atol=1e-3)


class Halved(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.weight = inner, inner.weight

    def forward(self, hidden):
        return self.inner(hidden) * 0.5


def halve(output):
    output.logits = output.logits * torch.linspace(0.2, 1.0, output.logits.shape[-1])
    return output


def replace_forward(model):
    forward = model.forward
    model.forward = functools.wraps(forward)(lambda *args, **kwargs: halve(forward(*args, **kwargs)))


CHANGES = {
    "hook of the output layer": lambda model: model.lm_head.register_forward_hook(lambda *given: given[-1] * 0.5),
    "hook of the model": lambda model: model.register_forward_hook(lambda *given: halve(given[-1])),
    "another output layer": lambda model: setattr(model, "lm_head", Halved(model.lm_head)),
    "another forward pass": replace_forward,
    "another attention": lambda model: model.set_attn_implementation("eager"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("keep", [False, True], ids=["generate", "Generator"])
def test_a_model_that_changes_after_the_first_call(change, keep, trie, vocab, make_inputs):
    model, inputs = copy.deepcopy(tiny_model("llama")), make_inputs(2)
    fresh = copy.deepcopy(model)
    CHANGES[change](fresh)
    expected = semid.generate(fresh, inputs, trie=trie, vocab=vocab, num_beams=5)
    generator = semid.Generator(model, trie=trie, vocab=vocab, num_beams=5)
    before = generator.generate(inputs)
    state = state_of(model)
    CHANGES[change](model)
    assert state_of(model) != state
    found = generator.generate(inputs) if keep else semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=5)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert change == "another attention" or (found.scores != before.scores).any()


def test_a_hook_of_the_model_is_called(trie, vocab, make_inputs):
    """Also one that changes nothing, such as a recorder's."""
    model, calls = copy.deepcopy(tiny_model("llama")), []
    model.register_forward_hook(lambda *given: calls.append(given))
    semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=5)
    calls.clear()
    semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=5)
    assert len(calls) == 3


def test_virtual_tokens_that_transformers_loses(trie, vocab, make_inputs, monkeypatch):
    peft = pytest.importorskip("transformers.integrations.peft")
    model = copy.deepcopy(tiny_model("llama"))
    model.active_peft_config = type("Settings", (), {"is_prompt_learning": True, "peft_type": "PREFIX_TUNING"})()
    monkeypatch.setattr(peft, "MIN_PEFT_VERSION", "0.22.0", raising=False)
    monkeypatch.setattr(interface.metadata, "version", lambda _: "0.21.2")
    message = r"virtual tokens \(PREFIX_TUNING\) that this transformers loses: expected peft 0\.22\.0 or newer"
    with pytest.raises(InvalidValueError, match=message):
        semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=5)


def test_linear_takes_its_arguments_by_name():
    """As torch's does: adapters of PEFT call it so."""
    x, weight = torch.randn(3, 4), torch.randn(5, 4)
    torch.testing.assert_close(linear(input=x, weight=weight, bias=None), torch.nn.functional.linear(x, weight))
