import copy
import functools
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from oracles import item_scores_oracle

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation import read_beams
from semid.generation.probe import Abilities, abilities
from tests.generation.conftest import LEVEL_TOKENS


def hugging_face(model, inputs, trie, vocab, num_beams, prompt_len):
    start = prompt_len(model, inputs)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=start)
    output = model.generate(
        **inputs,
        logits_processor=[processor],
        num_beams=num_beams,
        num_return_sequences=num_beams,
        do_sample=False,
        max_new_tokens=trie.n_levels,
        return_dict_in_generate=True,
        output_scores=True,
    )
    scores = None if num_beams == 1 else output.sequences_scores * trie.n_levels
    return read_beams(output.sequences, trie=trie, vocab=vocab, prompt_len=start, num_return=num_beams, scores=scores)


@pytest.mark.parametrize("num_beams", [1, 5, 100])  # of 50 items
@pytest.mark.parametrize(("batch", "ragged"), [(1, False), (8, False), (8, True)], ids=["one", "even", "ragged"])
def test_equal_to_hugging_face(any_model, trie, vocab, make_inputs, prompt_len, num_beams, batch, ragged):
    inputs = make_inputs(batch, ragged=ragged, seed=batch)
    expected = hugging_face(any_model, inputs, trie, vocab, num_beams, prompt_len)
    found = semid.generate(any_model, inputs, trie=trie, vocab=vocab, num_beams=num_beams)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.codes, expected.codes)
    np.testing.assert_array_equal(found.n_valid, expected.n_valid)
    if num_beams > 1:
        valid = found.items >= 0
        np.testing.assert_allclose(found.scores[valid], expected.scores[valid], atol=1e-4)
        assert (found.scores[~valid] == -np.inf).all()


def test_as_many_beams_as_items_give_the_exact_ranking(any_model, trie, vocab, codes, make_inputs):
    inputs = make_inputs(3, side="right" if any_model.config.is_encoder_decoder else "left")
    exact = item_scores_oracle(any_model, inputs, vocab.to_tokens(codes).tolist())  # column = rank: codes are sorted
    found = semid.generate(any_model, inputs, trie=trie, vocab=vocab, num_beams=len(codes))
    np.testing.assert_array_equal(found.items, np.argsort(-exact, axis=1))
    np.testing.assert_allclose(found.scores, -np.sort(-exact, axis=1), atol=1e-4)


@pytest.mark.parametrize("num_beams", [60, 100])
def test_exclusion_equals_the_oracle(model, trie, vocab, codes, make_inputs, num_beams):
    inputs = make_inputs(4)
    exact = item_scores_oracle(model, inputs, vocab.to_tokens(codes).tolist())
    ranking = np.argsort(-exact, axis=1)
    exclude = [set(ranking[0, :10].tolist()), None, torch.tensor([3, 3, 0, -1]), range(1, len(codes))]
    found = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=num_beams, exclude=exclude)
    for row, ranks in enumerate(exclude):
        gone = set() if ranks is None else {int(rank) for rank in ranks}
        expected = [rank for rank in ranking[row].tolist() if rank not in gone]
        assert found.items[row, : found.n_valid[row]].tolist() == expected
        assert (found.items[row, found.n_valid[row] :] == -1).all()
        kept = exact[row][expected]
        np.testing.assert_allclose(found.scores[row, : len(kept)], kept, atol=1e-4)


def test_excluded_items_leave_room_for_others(model, trie, vocab, make_inputs):
    inputs = make_inputs(2)
    first = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=6)
    second = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=6, exclude=first.items)
    assert second.n_valid.tolist() == [6, 6]
    assert not any(set(a) & set(b) for a, b in zip(first.items.tolist(), second.items.tolist(), strict=True))


def test_everything_excluded(model, trie, vocab, make_inputs):
    exclude = [range(trie.n_items), []]
    found = semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=4, exclude=exclude)
    assert found.n_valid.tolist() == [0, 4]
    assert (found.items[0] == -1).all() and (found.codes[0] == -1).all() and (found.scores[0] == -np.inf).all()
    found = semid.generate(model, make_inputs(1), trie=trie, vocab=vocab, num_beams=4, exclude=exclude[:1])
    assert found.items.shape == (1, 4) and found.n_valid.tolist() == [0]


def test_candidates_equal_the_oracle(any_model, trie, vocab, codes, make_inputs):
    inputs = make_inputs(4, side="right" if any_model.config.is_encoder_decoder else "left")
    exact = item_scores_oracle(any_model, inputs, vocab.to_tokens(codes).tolist())
    candidates = [{3, 4, 30}, None, torch.tensor([7, 7, -1, 0, 41]), []]
    exclude = [[4], [1], None, [2]]
    found = semid.generate(
        any_model, inputs, trie=trie, vocab=vocab, num_beams=60, candidates=candidates, exclude=exclude
    )
    for row, allowed in enumerate([{3, 30}, set(range(50)) - {1}, {0, 7, 41}, set()]):
        expected = sorted(allowed, key=lambda rank: -exact[row, rank])
        assert found.items[row, : found.n_valid[row]].tolist() == expected
        np.testing.assert_allclose(found.scores[row, : len(expected)], exact[row][expected], atol=1e-4)
        np.testing.assert_array_equal(found.codes[row, : len(expected)], codes[expected])
        assert (found.items[row, len(expected) :] == -1).all() and (found.codes[row, len(expected) :] == -1).all()


def test_a_restricted_trie_keeps_its_ranks(model, trie, vocab, codes, make_inputs):
    inputs = make_inputs(4)
    exact = item_scores_oracle(model, inputs, vocab.to_tokens(codes).tolist())
    alive = trie.restrict(np.arange(10, 50, 3))
    candidates = [None, [49, 10, 11, 48], [11, 12], range(50)]  # of these 10, 49 and none can be reached
    exclude = [[49, 48, 10], None, None, [0, 13]]
    found = semid.generate(model, inputs, trie=alive, vocab=vocab, num_beams=60, candidates=candidates, exclude=exclude)
    reached = set(range(10, 50, 3))
    for row, allowed in enumerate([reached - {49, 10}, {49, 10}, set(), reached - {13}]):
        expected = sorted(allowed, key=lambda rank: -exact[row, rank])
        assert found.items[row, : found.n_valid[row]].tolist() == expected
    with pytest.raises(InvalidValueError, match=r"exclude holds a rank out of range: expected 0 \.\. 49, got 50"):
        semid.generate(model, inputs, trie=alive, vocab=vocab, num_beams=3, exclude=[[50], [], [], []])


@pytest.mark.parametrize("normalize", ["full", "window", "allowed"])
def test_rows_with_tries_and_vocabularies_of_their_own(any_model, trie, vocab, codes, make_inputs, normalize):
    inputs = make_inputs(5)
    tries = [trie, semid.Trie.from_codes(codes[::2]), trie, semid.Trie.from_codes(codes[1::2]), trie]
    other = semid.SidVocabulary.from_token_ids([range(48, 56), range(40, 48), range(56, 64)])
    vocabs = [vocab, vocab, other, other, vocab]
    exclude = [None, [0], [1], [2, 3], None]
    options = dict(num_beams=6, normalize=normalize)
    found = semid.generate(any_model, inputs, trie=tries, vocab=vocabs, exclude=exclude, **options)
    for row in range(5):
        alone = semid.generate(
            any_model,
            {name: value[row : row + 1] for name, value in inputs.items()},
            trie=tries[row],
            vocab=vocabs[row],
            exclude=exclude[row : row + 1],
            **options,
        )
        np.testing.assert_array_equal(found.items[row], alone.items[0])
        np.testing.assert_array_equal(found.codes[row], alone.codes[0])
        np.testing.assert_allclose(found.scores[row], alone.scores[0], atol=1e-4)


def test_probability_outside_the_codes(any_model, trie, vocab, codes, make_inputs):
    """In every mode 1 - exp(score over the vocabulary - score over the codes)."""
    inputs = make_inputs(3)
    full, window = (
        semid.generate(any_model, inputs, trie=trie, vocab=vocab, num_beams=60, normalize=mode, outside=True)
        for mode in ("full", "window")
    )
    for found in (full, window):
        by_item = np.argsort(found.items, axis=1)[:, 10:]  # the first ten slots are empty
        assert np.isnan(np.take_along_axis(found.outside, np.argsort(found.items, axis=1)[:, :10], axis=1)).all()
        outside = np.take_along_axis(found.outside, by_item, axis=1)
        of_full, of_window = (
            np.take_along_axis(one.scores, np.argsort(one.items, axis=1)[:, 10:], axis=1) for one in (full, window)
        )
        np.testing.assert_allclose(outside, 1 - np.exp(of_full - of_window), atol=1e-4)


def test_eager_attention(any_model, trie, vocab, make_inputs, prompt_len):
    eager, inputs = copy.deepcopy(any_model), make_inputs(3)
    eager.set_attn_implementation("eager")
    assert abilities(eager) == abilities(any_model)
    found = semid.generate(eager, inputs, trie=trie, vocab=vocab, num_beams=8)
    # Not with the other attention: before 5.20, that of Gemma 2 does not bend its scores.
    expected = hugging_face(eager, inputs, trie, vocab, 8, prompt_len)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_threads_may_share_a_model(any_model, trie, vocab, make_inputs):
    def run(seed):
        return semid.generate(any_model, make_inputs(2, seed=seed), trie=trie, vocab=vocab, num_beams=5)

    expected = [run(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(run, [*range(4)] * 3), expected * 3, strict=True):
            np.testing.assert_array_equal(one.items, other.items)


def test_num_return(model, trie, vocab, make_inputs):
    every = semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=7)
    some = semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=7, num_return=3)
    for whole, part in zip(every[:3], some[:3], strict=True):
        np.testing.assert_array_equal(whole[:, :3], part)
    assert some.n_valid.tolist() == [3, 3]


def test_output_shapes_and_dtypes(model, vocab, make_inputs):
    trie = semid.Trie.from_codes([[0, 1, 2], [1, 0, 0]])
    found = semid.generate(model, make_inputs(3), trie=trie, vocab=vocab, num_beams=5)
    assert [array.shape for array in found[:4]] == [(3, 5), (3, 5, 3), (3, 5), (3,)]
    assert [array.dtype for array in found[:4]] == [np.int64, np.int64, np.float32, np.int64]
    assert found.outside is None
    assert found.n_valid.tolist() == [2, 2, 2]
    np.testing.assert_array_equal(trie.codes_of(found.items[:, :2]), found.codes[:, :2])


@pytest.mark.parametrize("n_levels", [1, 2])
def test_short_ids(any_model, make_inputs, prompt_len, n_levels):
    codes = np.unique(np.random.default_rng(0).integers(0, 6, (9, n_levels)), axis=0)
    trie = semid.Trie.from_codes(codes)
    vocab = semid.SidVocabulary.from_token_ids([range(40 + 6 * level, 46 + 6 * level) for level in range(n_levels)])
    inputs = make_inputs(2)
    expected = hugging_face(any_model, inputs, trie, vocab, 4, prompt_len)
    found = semid.generate(any_model, inputs, trie=trie, vocab=vocab, num_beams=4)
    np.testing.assert_array_equal(found.items, expected.items)


def logits_of_items(model, inputs, vocab, codes):
    """Logits of each level before each item's code, shape (batch, n_items, n_levels, vocabulary)."""
    tokens = torch.tensor(vocab.to_tokens(codes))
    rows = []
    for prompt, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        whole = torch.cat([prompt[mask.bool()].expand(len(tokens), -1), tokens[:, :-1]], dim=1)
        with torch.no_grad():
            rows.append(model(whole).logits[:, -3:])
    return torch.stack(rows).double()


@pytest.mark.parametrize("normalize", ["window", "allowed"])
def test_other_normalizers(decoder_only, vocab, codes, make_inputs, normalize):
    codes = codes[(codes < 5).all(axis=1)]
    trie = semid.Trie.from_codes(codes)  # of fewer codes than the vocabulary: the window is the vocabulary's
    inputs = make_inputs(2)
    logits = logits_of_items(decoder_only, inputs, vocab, codes)
    scores = np.zeros((2, len(codes)))
    for level, tokens in enumerate(vocab.level_tokens):
        window = logits[:, :, level, tokens.tolist()].numpy()
        for item, sid in enumerate(codes):
            follow = trie.children(sid[:level]) if normalize == "allowed" else np.arange(8)
            mass = np.log(np.exp(window[:, item, follow]).sum(axis=1))
            scores[:, item] += window[:, item, sid[level]] - mass
    found = semid.generate(decoder_only, inputs, trie=trie, vocab=vocab, num_beams=len(codes), normalize=normalize)
    np.testing.assert_array_equal(found.items, np.argsort(-scores, axis=1))
    np.testing.assert_allclose(found.scores, -np.sort(-scores, axis=1), atol=1e-4)


@pytest.mark.parametrize("num_beams", [8, 60])
def test_half_precision(any_model, trie, vocab, make_inputs, prompt_len, num_beams):
    """Sums of other order round otherwise: a logit of bfloat16 may be one unit in the last place off per level."""
    half, inputs = copy.deepcopy(any_model).bfloat16(), make_inputs(3)
    found = semid.generate(half, inputs, trie=trie, vocab=vocab, num_beams=num_beams)
    expected = hugging_face(half, inputs, trie, vocab, num_beams, prompt_len)
    assert found.scores.dtype == np.float32
    np.testing.assert_array_equal(found.n_valid, expected.n_valid)
    n = found.n_valid[0]
    np.testing.assert_allclose(found.scores[:, :n], expected.scores[:, :n], atol=0.1)
    for row in range(3):
        scores = dict(zip(expected.items[row].tolist(), expected.scores[row].tolist(), strict=True))
        last = expected.scores[row, n - 1]
        for rank, score in zip(found.items[row, :n].tolist(), found.scores[row, :n].tolist(), strict=True):
            assert abs(scores.get(rank, last) - score) < 0.1


def test_a_longer_start_of_the_answer(trie, vocab, make_inputs, prompt_len, encoder_decoder):
    inputs = make_inputs(3)
    start = encoder_decoder.config.decoder_start_token_id
    inputs["decoder_input_ids"] = torch.tensor([[start, 7, 8]] * 3)
    found = semid.generate(encoder_decoder, inputs, trie=trie, vocab=vocab, num_beams=5)
    expected = hugging_face(encoder_decoder, inputs, trie, vocab, 5, lambda *_: 3)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_prompts_without_a_mask(model, trie, vocab, make_inputs):
    inputs = make_inputs(2, ragged=False)
    expected = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=4)
    found = semid.generate(model, {"input_ids": inputs["input_ids"]}, trie=trie, vocab=vocab, num_beams=4)
    np.testing.assert_array_equal(found.items, expected.items)


def test_padding_of_an_encoder_may_stand_on_either_side(encoder_decoder, trie, vocab):
    words = torch.tensor([[5, 6, 7]])
    right = {"input_ids": torch.tensor([[5, 6, 7, 0, 0]]), "attention_mask": torch.tensor([[1, 1, 1, 0, 0]])}
    expected = semid.generate(encoder_decoder, {"input_ids": words}, trie=trie, vocab=vocab, num_beams=6)
    found = semid.generate(encoder_decoder, right, trie=trie, vocab=vocab, num_beams=6)
    np.testing.assert_array_equal(found.items, expected.items)


def test_nothing_is_changed(model, trie, vocab, make_inputs):
    inputs = make_inputs(2)
    given = {name: value.clone() for name, value in inputs.items()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    attributes, config = set(vars(model)), model.config.to_dict()
    first = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=4)
    second = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=4)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert all(torch.equal(inputs[name], value) for name, value in given.items())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())
    assert set(vars(model)) == attributes and model.config.to_dict() == config and not model.training


@pytest.fixture
def rows_of_calls(any_model, monkeypatch):
    """Shape of the tokens that each forward pass of the model (its decoder) reads."""
    shapes, decoder = [], any_model.get_decoder()
    forward = decoder.forward

    @functools.wraps(forward)  # generate looks at the signature
    def recording(*args, **kwargs):
        shapes.append(tuple((args[0] if args else kwargs["input_ids"]).shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(decoder, "forward", recording)
    abilities(any_model, 12)  # trying them out reads a few tokens, once
    shapes.clear()
    return shapes


def step_shape(model, batch, width):
    """Beams of a decoder-only model are positions of the request's row, except where it cannot read trees."""
    in_one_row = abilities(model).shared and not model.config.is_encoder_decoder
    return (batch, width) if in_one_row else (batch * width, 1)


def test_the_prompt_is_read_once(any_model, trie, vocab, make_inputs, rows_of_calls):
    semid.generate(any_model, make_inputs(2), trie=trie, vocab=vocab, num_beams=5)
    prompt = (2, 1 if any_model.config.is_encoder_decoder else 9)
    assert rows_of_calls == [prompt, *[step_shape(any_model, 2, 5)] * 2]


def test_no_row_is_spent_on_beams_that_do_not_exist(any_model, vocab, make_inputs, rows_of_calls):
    trie = semid.Trie.from_codes([[0, 1, 2], [1, 0, 0], [1, 0, 7]])
    found = semid.generate(any_model, make_inputs(2), trie=trie, vocab=vocab, num_beams=50)
    assert rows_of_calls[1:] == [step_shape(any_model, 2, 2)] * 2 and found.n_valid.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            dict(num_beams=0),
            InvalidValueError,
            "num_beams is too small: expected 1 or more, got 0. Search at least one",
        ),
        (dict(num_beams=2.0), InvalidTypeError, "num_beams is not an integer: expected 1 or more, got 2.0. Search"),
        (dict(num_return=3), InvalidValueError, "num_return is too large: expected at most 2, got 3. num_beams limits"),
        (dict(num_return=0), InvalidValueError, "num_return is too small: expected 1 or more, got 0. num_beams limits"),
        (
            dict(normalize="none"),
            InvalidValueError,
            "normalize is unknown: expected one of ('full', 'window', 'allowed')",
        ),
        (
            dict(num_beams=-3),
            InvalidValueError,
            "num_beams is too small: expected 1 or more, got -3. Search at least one beam.",
        ),
        (
            dict(candidates=[[0], [99]]),
            InvalidValueError,
            "candidates holds a rank out of range: expected 0 .. 49, got 99. Take ranks from",
        ),
        (
            dict(candidates=[[0]]),
            InvalidValueError,
            "candidates is wrong: expected 2 sequences of ranks, got 1 of shapes [(1,)]. Give one sequence",
        ),
        (
            dict(trie=[semid.Trie.from_codes([[0, 1, 2]])]),
            InvalidValueError,
            "trie has a wrong length: expected 2, one per row, got 1. Give one Trie for all rows or one per row.",
        ),
        (
            dict(trie=[semid.Trie.from_codes([[0, 1, 2]]), 3]),
            InvalidTypeError,
            "trie has a wrong type: expected a semid.Trie in row 1, got int. Give one for all rows or one per row.",
        ),
        (
            dict(
                trie=[semid.Trie.from_codes([[0, 1]]), semid.Trie.from_codes([[0]])],
                vocab=[semid.SidVocabulary.from_token_ids([[40, 41]] * n) for n in (2, 1)],
            ),
            InvalidValueError,
            "tries have different depths: expected 2 levels in all rows, got 1 in row 1. Search IDs of different",
        ),
        (
            dict(trie=semid.Trie.from_codes([[0, 1]])),
            InvalidValueError,
            "trie and vocabulary have different shapes: expected codebooks of at most (8, 8, 8) codes, got (1, 2).",
        ),
        (
            dict(vocab=semid.SidVocabulary.from_token_ids([range(60, 68)] * 2 + [range(68, 76)])),
            InvalidValueError,
            "the vocabulary does not fit the model: expected token ids below 70, got 75. Call vocab.extend",
        ),
        (
            dict(exclude=[[1]]),
            InvalidValueError,
            "exclude is wrong: expected 2 sequences of ranks, got 1 of shapes [(1,)]",
        ),
        (
            dict(exclude=[1, 2]),
            InvalidValueError,
            "expected 2 sequences of ranks, got 2 of shapes [(), ()]. Give one sequence per request, such as [[1, 2]] "
            "for one request.",
        ),
        (
            dict(exclude=3),
            InvalidTypeError,
            "exclude has a wrong type: expected 2 sequences of ranks, got 3. Give one sequence per request, such as ",
        ),
        (
            dict(candidates=torch.tensor(3)),
            InvalidTypeError,
            "candidates has a wrong type: expected 2 sequences of ranks, got tensor(3). Give one sequence per request",
        ),
        (
            dict(exclude=[[[1], [2, 3]], None]),
            InvalidValueError,
            "exclude is wrong: expected one sequence of ranks per request, got sequences within one. Flatten it.",
        ),
        (dict(exclude=[[1], [999]]), InvalidValueError, "exclude holds a rank out of range"),
        (
            dict(exclude=[[0], ["a"]]),
            InvalidTypeError,
            "exclude has a wrong dtype: expected integers, got <U1. Pass ranks,",
        ),
        (
            dict(vocab=[]),
            InvalidTypeError,
            "vocab has a wrong type: expected a semid.SidVocabulary, got list. Make one first.",
        ),
        (dict(normalize=np.ones(2)), InvalidValueError, "normalize is unknown: expected one of ('full', 'window', "),
        *(
            (
                {name: "false"},
                InvalidTypeError,
                f"{name} has a wrong type: expected True or False, got 'false'. Pass one of them.",
            )
            for name in ("do_sample", "outside", "return_dict")
        ),
        (
            dict(trie=[]),
            InvalidTypeError,
            "trie has a wrong type: expected one semid.Trie or a list of them, got an empty list",
        ),
    ],
)
def test_wrong_arguments(model, trie, vocab, make_inputs, arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        semid.generate(model, make_inputs(2), **dict(trie=trie, vocab=vocab, num_beams=2) | arguments)


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("normalize", ["full", "window", "allowed"])
@pytest.mark.parametrize("split", [False, True], ids=["whole logits", "parts"])
def test_logits_that_are_no_numbers(model, trie, vocab, make_inputs, normalize, depth, value, split, monkeypatch):
    """One column of one level is enough; some of the beams are dead."""
    monkeypatch.setattr("semid.generation.probe.abilities", lambda *_, **__: Abilities(split=split, shared=False))
    monkeypatch.setattr("semid.generation.beam.abilities", lambda *_, **__: None)
    broken = copy.deepcopy(model)
    head = torch.nn.Linear(*reversed(broken.get_output_embeddings().weight.shape))
    head.weight.data.copy_(broken.get_output_embeddings().weight)
    head.bias.data.zero_()[vocab.level_tokens[depth][3]] = value
    broken.lm_head = head.eval()
    level = 0 if normalize == "full" else depth  # the sum over the vocabulary has the token at each level
    message = f"the model's logits are not numbers: expected numbers at level {level}, got "
    with pytest.raises(InvalidValueError, match=re.escape(message) + "(nan|inf). Check its weights; float16 may"):
        semid.generate(broken, make_inputs(3), trie=trie, vocab=vocab, num_beams=60, normalize=normalize)


def test_a_model_that_is_trained_between_calls(model, trie, vocab, make_inputs):
    """Nothing of the weights is kept, also where the tokens of a level are scattered rows of them."""
    trained, options = copy.deepcopy(model), dict(trie=trie, vocab=vocab, num_beams=7, normalize="window")
    before = semid.generate(trained, make_inputs(2), **options)
    with torch.no_grad():
        trained.get_output_embeddings().weight[list(LEVEL_TOKENS[-1])] *= -1
    found = semid.generate(trained, make_inputs(2), **options)
    expected = semid.generate(copy.deepcopy(trained), make_inputs(2), **options)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert (found.items != before.items).any()
