import re
from itertools import permutations

import numpy as np
import pytest
import torch
from oracles import draw_probabilities_oracle, written_probabilities_oracle
from scipy.stats import chi2, kstest

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation import beam_search, read_beams
from semid.generation.sampling import draw, row_keys, row_seeds
from semid.trie import Selection
from tests.generation.conftest import tiny_model

# 6 items below 3, 2 and 1 first codes.
CODES = np.array([[0, 1, 2], [0, 1, 3], [0, 5, 0], [3, 2, 2], [3, 6, 1], [7, 7, 7]])


@pytest.fixture(params=["t5", "gpt2", "qwen2"])
def model(request):
    return tiny_model(request.param)


@pytest.fixture(scope="module")
def few():
    return semid.Trie.from_codes(CODES, codebook_sizes=(8, 8, 8))


def repeated(inputs, times):
    return {name: value[:1].repeat(times, 1) for name, value in inputs.items()}


def assert_frequencies(draws, probabilities):
    """Chi-square test of ordered draws at the level of 0.1 %; the seed is fixed, so it says the same each time."""
    counts = {order: 0 for order in probabilities}
    for order in map(tuple, draws.tolist()):
        counts[order] += 1
    expected = np.array(list(probabilities.values())) * len(draws)
    rare = expected < 5
    observed = np.array(list(counts.values()))
    observed, expected = (np.append(a[~rare], a[rare].sum()) for a in (observed, expected))
    kept = expected > 0
    statistic = ((observed - expected)[kept] ** 2 / expected[kept]).sum()
    assert statistic < chi2.ppf(0.999, kept.sum() - 1)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("normalize", ["full", "window", "allowed"])
def test_draws_have_the_probabilities_of_sampling_without_replacement(
    model, few, vocab, make_inputs, normalize, temperature
):
    inputs = make_inputs(1, length=4)
    exact = written_probabilities_oracle(model, inputs, vocab.to_tokens(CODES).tolist(), temperature=temperature)[0]
    found = semid.generate(
        model, repeated(inputs, 3_000), trie=few, vocab=vocab, num_beams=3, num_return=2, normalize=normalize,
        do_sample=True, temperature=temperature, seed=11,
    )  # fmt: skip
    assert (found.n_valid == 2).all()
    assert_frequencies(found.items, draw_probabilities_oracle(exact, 2))


def test_exclusions_candidates_and_restrictions_renormalise(model, few, vocab, make_inputs):
    inputs = make_inputs(1, length=4)
    tokens = vocab.to_tokens(CODES).tolist()
    for options, kept in [
        (dict(exclude=[[0, 1, 5]]), [2, 3, 4]),
        (dict(candidates=[[5, 1, 0]]), [0, 1, 5]),
        (dict(trie=few.restrict([1, 2, 4]), exclude=[[4]], candidates=[[0, 1, 2, 3]]), [1, 2]),
    ]:
        of_kept = written_probabilities_oracle(model, inputs, [tokens[rank] for rank in kept])[0]
        lists = {name: value * 2_000 for name, value in options.items() if name != "trie"}
        found = semid.generate(
            model, repeated(inputs, 2_000), trie=options.get("trie", few), vocab=vocab, num_beams=2, do_sample=True,
            seed=5, **lists,
        )  # fmt: skip
        places = np.searchsorted(kept, found.items)
        np.testing.assert_array_equal(np.array(kept)[places], found.items)
        assert_frequencies(places, draw_probabilities_oracle(of_kept, 2))


def test_scores_are_log_probabilities(any_model, trie, vocab, codes, make_inputs):
    """Those of a beam search for "full" and "window", those of the draws for "allowed"."""
    inputs = make_inputs(3, side="right" if any_model.config.is_encoder_decoder else "left")
    options = dict(trie=trie, vocab=vocab, num_beams=60)
    for normalize in ("full", "window", "allowed"):
        best = semid.generate(any_model, inputs, normalize=normalize, **options)
        drawn = semid.generate(any_model, inputs, normalize=normalize, do_sample=True, seed=1, outside=True, **options)
        assert drawn.n_valid.tolist() == [50] * 3
        assert not np.array_equal(drawn.items, best.items)
        for row in range(3):
            of_best, of_drawn = np.argsort(best.items[row, :50]), np.argsort(drawn.items[row, :50])
            np.testing.assert_allclose(drawn.scores[row, of_drawn], best.scores[row, of_best], atol=1e-4)
            np.testing.assert_array_equal(drawn.codes[row, of_drawn], codes)
        assert ((drawn.outside[:, :50] >= 0) & (drawn.outside[:, :50] <= 1)).all()
    exact = written_probabilities_oracle(any_model, inputs, vocab.to_tokens(codes).tolist())
    np.testing.assert_allclose(
        np.exp(drawn.scores[:, :50]), np.take_along_axis(exact, drawn.items[:, :50], 1), atol=1e-5
    )


def test_temperature_divides_the_logits(any_model, trie, vocab, codes, make_inputs):
    inputs = make_inputs(2, side="right" if any_model.config.is_encoder_decoder else "left")
    for temperature in (0.5, 2.0):
        exact = written_probabilities_oracle(
            any_model, inputs, vocab.to_tokens(codes).tolist(), temperature=temperature
        )
        found = semid.generate(
            any_model, inputs, trie=trie, vocab=vocab, num_beams=50, normalize="allowed", temperature=temperature
        )
        np.testing.assert_allclose(np.exp(found.scores), -np.sort(-exact, axis=1), atol=1e-5)


def test_cold_draws_are_the_best_and_hot_ones_even(decoder_only, few, vocab, make_inputs):
    inputs = repeated(make_inputs(1, length=4), 500)
    options = dict(trie=few, vocab=vocab, num_beams=1, do_sample=True, normalize="allowed", seed=0)
    best = semid.generate(decoder_only, inputs, **options | dict(num_beams=6, do_sample=False)).items[:, 0]
    cold = semid.generate(decoder_only, inputs, temperature=1e-3, **options)
    np.testing.assert_array_equal(cold.items[:, 0], best)
    hot = semid.generate(decoder_only, inputs, temperature=1e4, **options)
    # By branches: a third for each first code, and so on down.
    even = np.array([1 / 12, 1 / 12, 1 / 6, 1 / 6, 1 / 6, 1 / 3])
    assert_frequencies(hot.items, {(rank,): share for rank, share in enumerate(even)})


def test_a_seed_says_what_comes_out(model, trie, vocab, make_inputs):
    inputs = make_inputs(4, ragged=False)
    options = dict(trie=trie, vocab=vocab, do_sample=True)

    def run(rows=slice(None), *, num_beams=7, **more):
        return semid.generate(
            model, {name: value[rows] for name, value in inputs.items()}, num_beams=num_beams, **options, **more
        ).items

    first = run(seed=3)
    np.testing.assert_array_equal(run(seed=3), first)
    assert not np.array_equal(run(seed=4), first)
    # One seed per row: neither place nor company counts.
    seeds = [11, 12, 13, 11]
    together = run(seed=seeds)
    np.testing.assert_array_equal(run([3, 1, 0, 2], seed=[11, 12, 11, 13]), together[[3, 1, 0, 2]])
    np.testing.assert_array_equal(run(seed=np.array(seeds)), together)
    np.testing.assert_array_equal(run(seed=torch.tensor(seeds)), together)
    for row, seed in enumerate(seeds):
        np.testing.assert_array_equal(run([row], seed=[seed])[0], together[row])
    # More beams draw the same and then some.
    np.testing.assert_array_equal(run(num_beams=20, seed=3)[:, :7], first)
    np.testing.assert_array_equal(run(num_beams=7, num_return=2, seed=3), first[:, :2])
    # Without a seed, torch's.
    torch.manual_seed(5)
    some, others = run(), run()
    torch.manual_seed(5)
    np.testing.assert_array_equal(run(), some)
    assert not np.array_equal(some, others)


def test_rows_with_equal_prompts_draw_differently(model, trie, vocab, make_inputs):
    found = semid.generate(
        model, repeated(make_inputs(1), 6), trie=trie, vocab=vocab, num_beams=5, do_sample=True, temperature=5.0, seed=0
    )
    assert len({tuple(row) for row in found.items.tolist()}) == 6


def test_every_item_once(model, trie, vocab, make_inputs):
    found = semid.generate(model, make_inputs(3), trie=trie, vocab=vocab, num_beams=80, do_sample=True, seed=2)
    assert found.n_valid.tolist() == [50] * 3
    np.testing.assert_array_equal(np.sort(found.items[:, :50], axis=1), np.tile(np.arange(50), (3, 1)))
    assert (found.items[:, 50:] == -1).all() and (found.scores[:, 50:] == -np.inf).all()
    nothing = semid.generate(
        model, make_inputs(2), trie=trie, vocab=vocab, num_beams=4, do_sample=True, exclude=[range(50), None], seed=1
    )
    assert nothing.n_valid.tolist() == [0, 4] and (nothing.items[0] == -1).all()


def test_a_generator_draws_too(model, trie, vocab):
    rng = np.random.default_rng(5)
    prompts = [rng.integers(3, 40, length).tolist() for length in (3, 17, 1, 9, 8, 17, 2, 5)]
    options = dict(trie=trie, vocab=vocab, num_beams=6, do_sample=True, temperature=2.0, outside=True)
    found = semid.Generator(model, **options).generate_many(prompts, seed=9)
    one_by_one = semid.Generator(model, memory_mib=1, **options)
    for row, prompt in enumerate(prompts):
        alone = one_by_one.generate({"input_ids": torch.tensor([prompt])}, seed=[(9, row)])
        np.testing.assert_array_equal(found.items[row], alone.items[0])
        np.testing.assert_allclose(found.outside[row], alone.outside[0], atol=1e-4)


def test_behind_the_usual_call(model, trie, vocab, make_inputs, prompt_len):
    inputs = make_inputs(2)
    options = dict(trie=trie, vocab=vocab, num_beams=6, num_return=4, do_sample=True, temperature=2.0, seed=3)
    expected = semid.generate(model, inputs, **options)
    output = model.generate(**inputs, custom_generate=beam_search(**options), max_new_tokens=3)
    found = read_beams(output, trie=trie, vocab=vocab, prompt_len=prompt_len(model, inputs), num_return=4)
    np.testing.assert_array_equal(found.items, expected.items)


def test_the_frequencies_of_hugging_face(few, vocab, make_inputs):
    """With one beam, the probabilities are those with which `model.generate` samples under the constraint."""
    model, inputs = tiny_model("gpt2"), make_inputs(1, length=4)
    torch.manual_seed(1)
    processor = semid.SidLogitsProcessor(few, vocab, prompt_len=4)
    sampled = model.generate(
        **repeated(inputs, 3_000), logits_processor=[processor], do_sample=True, top_k=0, temperature=2.0,
        max_new_tokens=3,
    )  # fmt: skip
    ranks = few.rank(vocab.to_codes(sampled[:, 4:]))
    exact = written_probabilities_oracle(model, inputs, vocab.to_tokens(CODES).tolist(), temperature=2.0)[0]
    assert_frequencies(ranks[:, None], draw_probabilities_oracle(exact, 1))


def test_noise_is_uniform_and_independent():
    """A flat level of many codes: each is drawn first as often as any other, whatever the codes beside it."""
    n, requests = 16, 4_000
    children = Selection(
        np.zeros((requests, n), np.float32), np.zeros((requests, n), np.int64), np.tile(np.arange(n), (requests, 1)),
        np.tile(np.arange(n), (requests, 1)),
    )  # fmt: skip
    root = np.zeros((requests, 1))
    found = draw(children, root, root, row_keys(row_seeds(1, requests), 1)[:, 0], k=n)
    orders = {order: 1 / (n * (n - 1)) for order in permutations(range(n), 2)}
    assert_frequencies(found.nodes[:, :2], orders)
    np.testing.assert_allclose(found.log_probs, np.log(1 / n))
    np.testing.assert_allclose(found.perturbed[:, 0], 0, atol=1e-12)  # the largest is the root's own
    assert (np.diff(found.perturbed, axis=1) < 0).all()
    # All others are Gumbel variables cut off there, so that this is how much of their distribution lies below them.
    below = np.exp(-np.exp(-(found.perturbed[:, 1:] + np.log(n)))) / np.exp(-np.exp(-np.log(n)))
    assert kstest(below.ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            dict(temperature=0),
            InvalidValueError,
            "temperature is out of range: expected a finite number above 0, got 0.0.",
        ),
        (dict(temperature=float("inf")), InvalidValueError, "temperature is out of range: expected a finite number"),
        (
            dict(temperature=float("nan")),
            InvalidValueError,
            "expected a finite number above 0, got nan. For the best items",
        ),
        (
            dict(temperature=1e-40),
            InvalidValueError,
            "temperature is too small: expected 1e-30 or more, got 1e-40: logits divided by it are no numbers of "
            "float32. For the best items instead of draws, leave do_sample at False.",
        ),
        (dict(temperature=10**400), InvalidValueError, "expected a finite number above 0, got inf. For the best items"),
        (
            dict(temperature="1"),
            InvalidTypeError,
            "temperature has a wrong type: expected a number, got '1'. 1.0 leaves",
        ),
        (dict(seed=-1), InvalidValueError, "seed is too small: expected 0 or more, got -1. Give one integer"),
        (dict(seed=1.5), InvalidTypeError, "seed is not an integer: expected 0 or more, got 1.5."),
        (
            dict(seed="a"),
            InvalidTypeError,
            "seed is not an integer: expected 0 or more, got 'a'. Give one integer for all rows or one per row.",
        ),
        (
            dict(seed=[1]),
            InvalidValueError,
            "seed has a wrong length: expected 2, one per row, got 1. Give one seed for",
        ),
    ],
)
def test_wrong_arguments(model, trie, vocab, make_inputs, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        semid.generate(model, make_inputs(2), **dict(trie=trie, vocab=vocab, num_beams=2, do_sample=True) | arguments)


@pytest.mark.parametrize("do_sample", [False, True])
@pytest.mark.parametrize("normalize", ["full", "window", "allowed"])
def test_the_least_temperature(model, trie, vocab, make_inputs, do_sample, normalize):
    """Still numbers: the same items as without a temperature, one after the other by their scores."""
    inputs = make_inputs(2)
    options = dict(trie=trie, vocab=vocab, num_beams=60, normalize=normalize)
    found = semid.generate(model, inputs, **options, temperature=1e-30, do_sample=do_sample, seed=0)
    assert found.n_valid.tolist() == [50, 50] and np.isfinite(found.scores[:, :50]).all()
    if not do_sample:
        assert (np.diff(found.scores[:, :50], axis=1) <= 0).all()
