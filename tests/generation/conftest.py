"""Tiny models with random weights, a small catalogue, and prompts for them."""

from functools import cache

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import semid

# What tests must know of the version of transformers; the library asks the model instead, or says so in `interface`.
VERSION = Version(transformers.__version__)
CACHE = "cache" if Version("5.24") <= VERSION else "past_key_values"
MARKS_CACHES = Version("5.20") <= VERSION  # of the caller
SAMPLES_SHARE_REQUESTS = Version("5.24") <= VERSION  # for a prefix function, without beams

N_WORDS = 40  # tokens 0 .. 39 are words, 40 and up are codes
LEVEL_TOKENS = ([*range(47, 39, -1)], [*range(48, 56)], [*range(56, 64, 2), *range(57, 64, 2)])
SPECIAL = dict(pad_token_id=0, eos_token_id=1, bos_token_id=2)
LAYERS = dict(vocab_size=70, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)


def build(kind):
    match kind:
        case "t5" | "t5-untied":  # tied embeddings scale the hidden state
            config = T5Config(vocab_size=70, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
                              decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
                              tie_word_embeddings=kind == "t5", scale_decoder_outputs=kind == "t5")  # fmt: skip
            return T5ForConditionalGeneration(config)
        case "bart":
            layers = {
                f"{side}_{name}": size
                for side in ("encoder", "decoder")
                for name, size in dict(layers=2, attention_heads=4, ffn_dim=48).items()
            }
            special = dict(**SPECIAL, decoder_start_token_id=1, forced_eos_token_id=None)
            return BartForConditionalGeneration(BartConfig(vocab_size=70, d_model=32, **layers, **special))
        case "gpt2":
            return GPT2LMHeadModel(GPT2Config(vocab_size=70, n_embd=32, n_layer=2, n_head=4, n_positions=64, **SPECIAL))
        case "bloom":  # its forward takes no position_ids
            return BloomForCausalLM(BloomConfig(vocab_size=70, hidden_size=32, n_layer=2, n_head=4, **SPECIAL))
        case "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**LAYERS, num_key_value_heads=2, **SPECIAL))
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**LAYERS, tie_word_embeddings=False, **SPECIAL))
        case "mistral":  # the window is shorter than the prompts
            return MistralForCausalLM(MistralConfig(**LAYERS, num_key_value_heads=2, sliding_window=4, **SPECIAL))
        case "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**LAYERS, num_key_value_heads=2, head_dim=8, **SPECIAL))
        case "gemma":
            return GemmaForCausalLM(GemmaConfig(**LAYERS, num_key_value_heads=2, head_dim=8, **SPECIAL))
        case "gemma2":  # every other layer has a window; logits are bent
            config = Gemma2Config(**LAYERS, num_key_value_heads=2, head_dim=8, sliding_window=4,
                                  final_logit_softcapping=3.0, attn_logit_softcapping=5.0, **SPECIAL)  # fmt: skip
            return Gemma2ForCausalLM(config)
        case "gemma3":  # both kinds of layers, with positions of different wave lengths
            types = ["sliding_attention", "full_attention"]
            config = Gemma3TextConfig(**LAYERS, num_key_value_heads=2, head_dim=8, sliding_window=4, layer_types=types,
                                      **SPECIAL)  # fmt: skip
            return Gemma3ForCausalLM(config)


@cache
def tiny_model(kind):
    torch.manual_seed(0)
    model = build(kind)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.3)
        if kind == "bart":
            model.final_logits_bias.normal_()
    return model.eval()


ENCODER_DECODERS = ("t5", "t5-untied", "bart")
KINDS = (*ENCODER_DECODERS, "gpt2", "bloom", "qwen2", "qwen3", "llama", "mistral", "gemma", "gemma2", "gemma3")


@pytest.fixture(params=KINDS)
def any_model(request):
    return tiny_model(request.param)


@pytest.fixture(params=["t5", "qwen2"])
def model(request):
    return tiny_model(request.param)


@pytest.fixture(params=ENCODER_DECODERS)
def encoder_decoder(request):
    return tiny_model(request.param)


@pytest.fixture(params=["gpt2", "llama"])
def decoder_only(request):
    return tiny_model(request.param)


@pytest.fixture(scope="session")
def codes():
    return np.unique(np.random.default_rng(3).integers(0, 8, (50, 3)), axis=0)


@pytest.fixture(scope="session")
def trie(codes):
    return semid.Trie.from_codes(codes, codebook_sizes=(8, 8, 8))


@pytest.fixture(scope="session")
def vocab():
    return semid.SidVocabulary.from_token_ids(LEVEL_TOKENS, eos_token_id=1)


@pytest.fixture(scope="session")
def make_inputs():
    return make_prompts


def make_prompts(batch, *, length=9, ragged=True, seed=0, side="left"):
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(3, N_WORDS, (batch, length), generator=generator)
    mask = torch.ones_like(input_ids)
    for row in range(batch if ragged else 0):
        padding = 2 * row % length
        mask[row, slice(padding) if side == "left" else slice(length - padding, None)] = 0
    return {"input_ids": input_ids * mask, "attention_mask": mask}


@pytest.fixture(scope="session")
def prompt_len():
    return lambda model, inputs: 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
