"""The logits processor: a call beside Hugging Face's over a dict and a warm fill, and its share of a generate call."""

import time

import numpy as np
import pytest
import torch
from transformers import PrefixConstrainedLogitsProcessor

import semid
from benchmarks.decoding import SIZES, DictPrefixes, catalogue, model_of, prompts, vocabulary_of
from benchmarks.side_by_side import side_by_side


@pytest.mark.benchmark(group="processor: one call at depth 1")
@pytest.mark.parametrize("vocabulary", [33_152, 151_936])
@pytest.mark.parametrize("n_rows", [320, 1_600])
def test_bench_processor(benchmark, n_rows, vocabulary):
    """From token ids to masked scores; both must mask the same, bit for bit."""
    small = benchmark.disabled
    if small:
        n_rows, vocabulary = n_rows // 20, 1_500
    n_items = 2_000 if small else 100_000
    trie, codes = catalogue(n_items)
    first = np.cumsum([vocabulary - sum(SIZES), *SIZES[:-1]])
    vocab = semid.SidVocabulary.from_token_ids([range(at, at + n) for at, n in zip(first, SIZES, strict=True)])
    begun = vocab.to_tokens(codes[np.random.default_rng(1).integers(0, n_items, n_rows)])[:, :1].astype(np.int64)
    input_ids = torch.cat([torch.full((n_rows, 1), 3), torch.from_numpy(begun)], dim=1)
    scores = torch.zeros(n_rows, vocabulary)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=1)
    hugging_face = PrefixConstrainedLogitsProcessor(DictPrefixes(codes, vocab, 1), num_beams=1)
    processor(input_ids, scores)
    assert torch.equal(hugging_face(input_ids, torch.zeros_like(scores)), scores)
    calls = {
        "semid": lambda: processor(input_ids, scores),
        # It leaves the processor scores such as a model gives; rows of -inf alone take another way through it. Zeros
        # would be less than a write: some processors write them up to a quarter faster than any other value.
        "fill a warm tensor": lambda: scores.fill_(-1.0),
        "Hugging Face, dict": lambda: hugging_face(input_ids, scores),
    }
    seconds = side_by_side(calls, rounds=1 if small else 15, clock=time.process_time)
    benchmark.extra_info |= {"n_items": n_items, "clock": "CPU", "seconds": seconds}
    benchmark.pedantic(calls["semid"], rounds=1)


@pytest.mark.benchmark(group="processor: share of generate")
@pytest.mark.parametrize(("kind", "batch", "num_beams"), [("t5", 1, 50), ("t5", 8, 20), ("qwen2", 1, 50)])
def test_bench_share(benchmark, kind, batch, num_beams):
    """CPU time inside the processor beside that of the whole ``model.generate``."""
    small = benchmark.disabled
    if small:
        batch, num_beams = min(batch, 2), 5
    model, n_items = model_of(kind, small=small), 2_000 if small else 100_000
    (trie, _), vocab, inputs = catalogue(n_items), vocabulary_of(model), prompts(batch, 12 if small else 64)
    start = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=start)
    inside = []

    def timed(input_ids, scores):
        begin = time.process_time()
        scores = processor(input_ids, scores)
        inside.append(time.process_time() - begin)
        return scores

    def run():
        return model.generate(
            **inputs, num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=len(SIZES), do_sample=False,
            logits_processor=[timed],
        )  # fmt: skip

    tokens = run()[:, start:].numpy()
    assert (trie.rank(vocab.to_codes(tokens)) >= 0).all()
    seconds = {"generate": [], "processor": []}
    for _ in range(1 if small else 5):
        inside.clear()
        begin = time.process_time()
        run()
        seconds["generate"].append(time.process_time() - begin)
        seconds["processor"].append(sum(inside))
        assert len(inside) == len(SIZES)
    benchmark.extra_info |= {"n_items": n_items, "clock": "CPU", "seconds": seconds}
    benchmark.extra_info["share"] = float(np.median(np.divide(seconds["processor"], seconds["generate"])))
    benchmark.pedantic(run, rounds=1)
