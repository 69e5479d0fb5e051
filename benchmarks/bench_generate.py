"""Whole searches: semid.generate beside Hugging Face's beam search, with and without a constraint, and the floor."""

import time

import numpy as np
import pytest

import semid
from benchmarks.decoding import (
    DictPrefixes,
    bare_passes,
    catalogue,
    hugging_face,
    model_of,
    prompts,
    vocabulary_of,
)
from benchmarks.side_by_side import side_by_side
from semid.generation import probe, read_beams

# Kind of model, requests, beams, tokens of a prompt.
ROWS = [("t5", 1, 50, 64), ("t5", 8, 20, 64), ("qwen2", 1, 50, 64), ("qwen2", 1, 50, 512), ("qwen2", 8, 20, 64)]


@pytest.mark.benchmark(group="generate")
@pytest.mark.parametrize(("kind", "batch", "num_beams", "length"), ROWS)
def test_bench_generate(benchmark, monkeypatch, kind, batch, num_beams, length):
    """The same prompts by all; what is exact must return what Hugging Face does under the same constraint.

    The shares of a search in full mode are told apart by switching its parts off: rows that copy the prompt's cache
    instead of sharing it, and the whole output layer instead of the level's tokens and a normaliser in blocks.
    """
    small = benchmark.disabled
    if small:
        batch, num_beams, length = min(batch, 2), 5, 12
    model = model_of(kind, small=small)
    n_items = 2_000 if small else 100_000
    (trie, codes), vocab, inputs = catalogue(n_items), vocabulary_of(model), prompts(batch, length)
    prompt_len = 1 if model.config.is_encoder_decoder else length
    function = DictPrefixes(codes, vocab, prompt_len)
    arguments = dict(trie=trie, vocab=vocab, num_beams=num_beams)
    able = probe.abilities(model)
    assert able == probe.Abilities(split=True, shared=True)

    def with_abilities(found, **options):
        def run():
            with monkeypatch.context() as patch:
                patch.setattr("semid.generation.beam.abilities", lambda _: found)
                return semid.generate(model, inputs, **arguments, **options)

        return run

    calls = {
        "semid, window": with_abilities(able, normalize="window"),
        "semid, full": with_abilities(able),
        "semid, full, shared prompt, whole output layer": with_abilities(probe.Abilities(False, True)),
        "semid, full, one prompt row, whole output layer": with_abilities(probe.Abilities(False, False)),
        "bare forward passes": lambda: bare_passes(model, inputs, num_beams),
        "HF, unconstrained": lambda: hugging_face(model, inputs, num_beams),
        "HF, dict trie": lambda: hugging_face(model, inputs, num_beams, function),
    }
    theirs = calls["HF, dict trie"]()
    scores = theirs.sequences_scores * trie.n_levels
    expected = read_beams(
        theirs.sequences, trie=trie, vocab=vocab, prompt_len=prompt_len, num_return=num_beams, scores=scores
    )
    for name in [name for name in calls if name.startswith("semid, full")]:
        found = calls[name]()
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        # Neighbours closer than rounding may change places.
        apart = np.abs(np.diff(expected.scores, axis=1, append=-np.inf, prepend=np.inf)) > 1e-4
        clear = apart[:, 1:] & apart[:, :-1]
        np.testing.assert_array_equal(found.items[clear], expected.items[clear])
    rounds = 1 if small else 7
    seconds = side_by_side(calls, rounds=rounds, clock=time.process_time)
    benchmark.extra_info |= {"n_items": n_items, "seconds": seconds, "clock": "CPU"}
    benchmark.pedantic(calls["semid, full"], rounds=1)
