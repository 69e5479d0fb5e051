"""Whole searches: semid.generate beside Hugging Face's beam search, with and without a constraint, and the floor."""

import statistics
import time

import numpy as np
import pytest
import torch

import semid
from benchmarks.decoding import (
    DictPrefixes,
    bare_passes,
    catalogue,
    hugging_face,
    model_of,
    peak_mebibytes,
    prompts,
    share_outside_the_model,
    vocabulary_of,
)
from benchmarks.side_by_side import side_by_side
from semid.generation import probe, read_beams
from semid.generation.head import WeightHead

# Kind of model, requests, beams, tokens of a prompt; then rounds, of which slow rivals take part in the first.
ROWS = {
    ("t5", 1, 50, 64): 7,
    ("t5", 8, 20, 64): 5,
    ("qwen2", 1, 50, 64): 7,
    ("qwen2", 1, 50, 512): 5,
    ("qwen2", 8, 20, 64): 5,
    ("qwen2-0.5b", 1, 50, 64): 3,
}
LARGE = {("qwen2-0.5b", 1, 50, 64)}  # without the shares of the parts
SLOW = {("qwen2", 1, 50, 512), ("qwen2", 8, 20, 64), ("qwen2-0.5b", 1, 50, 64)}
GROWTH = [(n, 64) for n in (1, 10, 50, 100, 200, 500)] + [(50, length) for length in (256, 512, 1_024, 2_048)]


@pytest.mark.benchmark(group="generate")
@pytest.mark.parametrize(("kind", "batch", "num_beams", "length"), ROWS)
def test_bench_generate(benchmark, monkeypatch, kind, batch, num_beams, length):
    """The same prompts by all; what is exact must return what Hugging Face does under the same constraint.

    The shares of a search in full mode are told apart by switching its parts off: products by MKL instead of oneDNN,
    the whole output layer instead of the level's tokens and a normaliser in blocks, and rows that copy the prompt's
    cache instead of sharing it.
    """
    row, small = (kind, batch, num_beams, length), benchmark.disabled
    if small:
        batch, num_beams, length = min(batch, 2), 5, 12
    model = model_of(kind, small=small)
    n_items = 2_000 if small else 100_000
    (trie, codes), vocab, inputs = catalogue(n_items), vocabulary_of(model), prompts(batch, length)
    prompt_len = 1 if model.config.is_encoder_decoder else length
    function = DictPrefixes(codes, vocab, prompt_len)
    able = probe.abilities(model)
    assert able == probe.Abilities(split=True, shared=True, several=True)

    def search(found=able, *, onednn=True, normalize="full"):
        def run():
            with monkeypatch.context() as patch:
                patch.setattr("semid.generation.probe.abilities", lambda *_, **__: found)
                patch.setattr(torch.backends.mkldnn, "enabled", onednn)
                return semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=num_beams, normalize=normalize)

        return run

    calls = {
        "semid, window": search(normalize="window"),
        "semid, window, products by MKL": search(normalize="window", onednn=False),
        "semid, full": search(),
        "semid, full, products by MKL": search(onednn=False),
        "semid, full, MKL, whole output layer": search(probe.Abilities(False, True), onednn=False),
        "semid, full, MKL, whole output layer, a copy of the prompt per beam": search(
            probe.Abilities(False, False), onednn=False
        ),
        "bare forward passes": lambda: bare_passes(model, inputs, num_beams),
        "HF, unconstrained": lambda: hugging_face(model, inputs, num_beams),
        "HF, dict trie": lambda: hugging_face(model, inputs, num_beams, function),
    }
    if row in LARGE:
        calls = {name: call for name, call in calls.items() if "MKL, " not in name}
    theirs = calls["HF, dict trie"]()
    expected = read_beams(
        theirs.sequences, trie=trie, vocab=vocab, prompt_len=prompt_len, num_return=num_beams,
        scores=theirs.sequences_scores * trie.n_levels,
    )  # fmt: skip
    for name in [name for name in calls if name.startswith("semid, full")]:
        assert_same(calls[name](), expected)
    if row in LARGE:
        del calls["HF, dict trie"]
    slow = {name for name in calls if name.startswith("HF") and row in SLOW}
    seconds = side_by_side(calls, rounds=1 if small else ROWS[row], clock=time.process_time, slow=slow)
    rounds = 1 if small else 3 if row in LARGE else 15
    measured = {
        f"constraint_and_bookkeeping,_percent_of_a_{mode}_search": 100
        * share_outside_the_model(monkeypatch, search(normalize=mode), model, WeightHead, rounds=rounds)
        for mode in ("window", "full")
    }
    benchmark.extra_info |= {"n_items": n_items, "seconds": seconds, "clock": "CPU", "measured": measured}
    benchmark.pedantic(calls["semid, full"], rounds=1)


@pytest.mark.benchmark(group="generate: growth")
@pytest.mark.parametrize(("num_beams", "length"), GROWTH)
def test_bench_growth(benchmark, num_beams, length):
    """CPU time and memory peak against the number of beams and the length of the prompt, one request."""
    small = benchmark.disabled
    if small:
        num_beams, length = min(num_beams, 3), length // 64
    model, n_items = model_of("qwen2", small=small), 2_000 if small else 100_000
    (trie, _), vocab, inputs = catalogue(n_items), vocabulary_of(model), prompts(1, length)
    mebibytes = {}

    def measured(name, call):
        mebibytes[f"{name}, {num_beams} beams, prompt of {length}"] = peak_mebibytes(call)

    searches = {
        f"semid, {mode}": lambda mode=mode: semid.generate(
            model, inputs, trie=trie, vocab=vocab, num_beams=num_beams, normalize=mode
        )
        for mode in ("window", "full")
    }
    # Once, for both: the call is long enough that looking at the memory does not show in its time.
    theirs = {
        "HF, unconstrained": lambda: measured("HF, unconstrained", lambda: hugging_face(model, inputs, num_beams))
    }
    seconds = side_by_side(searches | theirs, rounds=1 if small else 3, clock=time.process_time, slow=theirs.keys())
    for name, call in searches.items():
        measured(name, call)
    benchmark.extra_info |= {"n_items": n_items, "seconds": seconds, "clock": "CPU", "mebibytes": mebibytes}
    benchmark.extra_info |= {"num_beams": num_beams, "length": length}
    benchmark.pedantic(searches["semid, full"], rounds=1)
    assert all(statistics.median(times) > 0 for times in seconds.values())


def assert_same(found, expected):
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    # Neighbours closer than rounding may change places.
    apart = np.abs(np.diff(expected.scores, axis=1, append=-np.inf, prepend=np.inf)) > 1e-4
    clear = apart[:, 1:] & apart[:, :-1]
    np.testing.assert_array_equal(found.items[clear], expected.items[clear])
