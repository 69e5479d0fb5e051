"""Models of measured shapes with random weights, and Hugging Face's beam search over a dict, to decode beside."""

import ctypes
import gc
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import semid
from benchmarks.catalogues import clustered_codes
from semid.generation.interface import cache_name, forward_arguments

__all__ = [
    "SHAPES",
    "DictPrefixes",
    "bare_passes",
    "catalogue",
    "hugging_face",
    "model_of",
    "peak_mebibytes",
    "prompts",
    "share_outside_the_model",
    "vocabulary_of",
]

SIZES = (256, 256, 256, 256)
# Hidden size, layers and vocabulary when measuring; small ones when a benchmark's body runs as a test.
SHAPES = {
    "t5": dict(words=32_128, d_model=512, layers=6, d_ff=2_048, heads=8),
    "qwen2": dict(words=150_912, d_model=256, layers=4, d_ff=1_024, heads=4),
    "qwen2-0.5b": dict(words=150_912, d_model=896, layers=24, d_ff=4_864, heads=14),
}
SMALL = dict(words=1_000, d_model=32, layers=2, d_ff=64, heads=4)


def model_of(kind, *, small):
    """Return a model without an end token, whose last tokens are the codes of `SIZES`."""
    torch.manual_seed(0)
    shape = SMALL if small else SHAPES[kind]
    d_model, layers, heads = (shape[name] for name in ("d_model", "layers", "heads"))
    vocab_size = shape["words"] + sum(SIZES)
    if kind == "t5":
        model = T5ForConditionalGeneration(T5Config(
            vocab_size=vocab_size, d_model=d_model, d_kv=d_model // heads, d_ff=shape["d_ff"], num_layers=layers,
            num_heads=heads, decoder_start_token_id=0, pad_token_id=0, eos_token_id=None,
        ))  # fmt: skip
        model.shared.weight.data.normal_(0, 0.08)
    else:
        model = Qwen2ForCausalLM(Qwen2Config(
            vocab_size=vocab_size, hidden_size=d_model, intermediate_size=shape["d_ff"], num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=2, max_position_embeddings=4_096, bos_token_id=None,
            eos_token_id=None, pad_token_id=0,
        ))  # fmt: skip
        model.model.embed_tokens.weight.data.normal_(0, 0.08)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model.eval()


def vocabulary_of(model):
    first = np.cumsum([model.config.vocab_size - sum(SIZES), *SIZES[:-1]])
    return semid.SidVocabulary.from_token_ids(
        [np.arange(start, start + n) for start, n in zip(first, SIZES, strict=True)]
    )


def catalogue(n_items):
    codes = clustered_codes(n_items, SIZES)
    return semid.Trie.from_codes(codes, codebook_sizes=SIZES), codes


def prompts(batch, length):
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(3, 900, (batch, length), generator=generator)
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


class DictPrefixes:
    """The prefix function as most code has it: a dict from the tokens so far to those that may follow."""

    def __init__(self, codes, vocab, prompt_len):
        self.prompt_len = prompt_len
        children = {}
        for row in vocab.to_tokens(codes).tolist():
            for depth, token in enumerate(row):
                children.setdefault(tuple(row[:depth]), set()).add(token)
        self.children = {prefix: sorted(tokens) for prefix, tokens in children.items()}

    def __call__(self, batch_id, input_ids):
        return self.children[tuple(input_ids[self.prompt_len :].tolist())]


def hugging_face(model, inputs, num_beams, function=None):
    """Run ``model.generate`` with beams for as many tokens as an ID has."""
    return model.generate(
        **inputs, num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=len(SIZES), do_sample=False,
        return_dict_in_generate=True, output_scores=True, prefix_allowed_tokens_fn=function,
    )  # fmt: skip


@torch.inference_mode()
def bare_passes(model, inputs, num_beams):
    """Run what nobody can save: the prompt once, then the beams' tokens of all levels but the last; no output layer."""
    input_ids, batch = inputs["input_ids"], len(inputs["input_ids"])
    decoder, tokens = model.get_decoder(), torch.full((batch, num_beams), 5)
    options = dict(use_cache=True, return_dict=True)
    name = cache_name(forward_arguments(decoder), decoder)
    if model.config.is_encoder_decoder:
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        encoded = model.get_encoder()(input_ids=input_ids).last_hidden_state
        options |= dict(encoder_hidden_states=encoded, **{name: cache})
        decoder(input_ids=torch.zeros(batch, 1, dtype=torch.long), **options)
        for _ in SIZES[1:]:
            seen = cache.get_seq_length() + num_beams
            decoder(input_ids=tokens, attention_mask=torch.zeros(batch, 1, num_beams, seen), **options)
        return
    cache = DynamicCache()
    decoder(input_ids=input_ids, **{name: cache}, **options)
    for _ in SIZES[1:]:
        seen = cache.get_seq_length() + num_beams
        mask = torch.zeros(batch, 1, num_beams, seen)
        decoder(input_ids=tokens, attention_mask=mask, **{name: cache}, **options)


def share_outside_the_model(monkeypatch, search, model, head, *, rounds):
    """Return which share of a search's CPU time goes to what neither the model nor its output layer computes.

    That is all but the calls of the model's own encoder and decoder and of the methods of `head`, the class that
    multiplies by the output layer: checks, masks and positions for the model, log-probabilities of a level's codes,
    selection in the trie, and the output.
    """
    spent, begun = [0.0], []

    def begin(*_):
        begun.append(time.process_time())

    def end(*_):
        spent[0] += time.process_time() - begun.pop()

    def timed(call):
        def run(*args, **kwargs):
            begin()
            try:
                return call(*args, **kwargs)
            finally:
                end()

        return run

    modules = [model.get_decoder(), *([model.get_encoder()] if model.config.is_encoder_decoder else [])]
    hooks = [module.register_forward_pre_hook(begin) for module in modules]
    hooks += [module.register_forward_hook(end) for module in modules]
    shares = []
    with monkeypatch.context() as patch:
        for name in ("logits", "log_normalizer"):
            patch.setattr(head, name, timed(getattr(head, name)))
        search()
        for _ in range(rounds):
            spent[0], start = 0.0, time.process_time()
            search()
            shares.append(1 - spent[0] / (time.process_time() - start))
    for hook in hooks:
        hook.remove()
    return statistics.median(shares)


def peak_mebibytes(call):
    """Return by how much the memory of this process rose at most during a call; Linux tells, NaN elsewhere."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        call()
        return float("nan")

    def kibibytes(name):
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls have freed and the allocator has kept
    before = kibibytes("VmRSS")
    reset.write_text("5")  # the peak begins anew
    call()
    return (kibibytes("VmHWM") - before) / 1024
