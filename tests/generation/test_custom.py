import re

import numpy as np
import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache, StoppingCriteria
from transformers.generation.stopping_criteria import MaxLengthCriteria, MaxTimeCriteria

import semid
from semid.errors import InvalidValueError
from semid.generation import beam_search, read_beams
from tests.generation.conftest import CACHE, MARKS_CACHES, tiny_model


@pytest.fixture(params=["gpt2", "qwen2", "t5"])
def model(request):
    return tiny_model(request.param)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    "options",
    [{}, {"normalize": "window", "num_return": 2}, {"num_beams": 60}, {"exclude": [range(49)]}],
    ids=["plain", "window", "more than items", "exclude"],
)
def test_equal_to_generate(model, trie, vocab, make_inputs, prompt_len, batch, options):
    inputs = make_inputs(batch)
    options = {"trie": trie, "vocab": vocab, "num_beams": 6, **options}
    if "exclude" in options:
        options["exclude"] = options["exclude"] * batch
    expected = semid.generate(model, inputs, **options)
    output = model.generate(
        **inputs, custom_generate=beam_search(**options), max_new_tokens=3, return_dict_in_generate=True
    )
    n_return = options.get("num_return", options["num_beams"])
    start = prompt_len(model, inputs)
    assert output.sequences.shape == (batch * n_return, start + 3)
    found = read_beams(
        output.sequences, trie=trie, vocab=vocab, prompt_len=start, num_return=n_return, scores=output.sequences_scores
    )
    for name in ("items", "codes", "n_valid"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    plain = model.generate(**inputs, custom_generate=beam_search(**options), max_new_tokens=3)
    assert plain.equal(output.sequences)


def test_rows_of_their_own(model, trie, vocab, codes, make_inputs, prompt_len):
    inputs = make_inputs(2)
    other = semid.SidVocabulary.from_token_ids([range(48, 56), range(40, 48), range(56, 64)])
    tries, vocabs = [trie, semid.Trie.from_codes(codes[::2], codebook_sizes=(8, 8, 8))], [vocab, other]
    search = beam_search(trie=tries, vocab=vocabs, num_beams=5)
    sequences = model.generate(**inputs, custom_generate=search, max_new_tokens=3)
    expected = semid.generate(model, inputs, trie=tries, vocab=vocabs, num_beams=5)
    start = prompt_len(model, inputs)
    for row in range(2):
        of_row = sequences[5 * row : 5 * row + 5]
        found = read_beams(of_row, trie=tries[row], vocab=vocabs[row], prompt_len=start, num_return=5)
        np.testing.assert_array_equal(found.items[0], expected.items[row])


def test_what_it_refuses(model, trie, vocab, make_inputs, prompt_len):
    inputs = make_inputs(1)
    options = dict(custom_generate=beam_search(trie=trie, vocab=vocab, num_beams=3), max_new_tokens=3)
    with pytest.raises(InvalidValueError, match=r"expected num_beams and num_return_sequences of 1, got 3"):
        model.generate(**inputs, **options, num_beams=3)
    processor = semid.SidLogitsProcessor(trie, vocab, prompt_len=prompt_len(model, inputs))
    with pytest.raises(InvalidValueError, match=r"expected none, got \['SidLogitsProcessor'\]"):
        model.generate(**inputs, **options, logits_processor=[processor])


def refused(message):
    return pytest.raises(InvalidValueError, match=re.escape(message))


def call(model, inputs, trie, vocab, **options):
    search = beam_search(trie=trie, vocab=vocab, num_beams=3)
    return model.generate(**inputs, custom_generate=search, **{"max_new_tokens": 3, **options})


def test_an_id_must_fit_into_the_length(model, trie, vocab, make_inputs, prompt_len):
    inputs = make_inputs(2)
    start = prompt_len(model, inputs)
    expected = call(model, inputs, trie, vocab)
    message = (
        f"an ID does not fit: expected max_new_tokens of 3 or more, or a max_length of {start + 3} or more, got room "
        "for 2. Pass max_new_tokens=3."
    )
    for options in ({"max_new_tokens": 2}, {"max_new_tokens": None, "max_length": start + 2},
                    {"stopping_criteria": [MaxLengthCriteria(start + 2)]}):  # fmt: skip
        with refused(message):
            call(model, inputs, trie, vocab, **options)
    for options in ({"max_new_tokens": 50}, {"max_new_tokens": None, "max_length": start + 3}):
        assert call(model, inputs, trie, vocab, **options).equal(expected)


@pytest.mark.filterwarnings("ignore:Using the model-agnostic default `max_length`")  # that is what is tested
def test_a_default_length_at_the_last_position(trie, vocab, make_inputs):
    """Of 64 positions, 62 are the prompt's: generate leaves two, and the third token is never read."""
    gpt2 = tiny_model("gpt2")
    inputs = make_inputs(1, length=62, ragged=False)
    sequences = call(gpt2, inputs, trie, vocab, max_new_tokens=None)
    expected = semid.generate(gpt2, inputs, trie=trie, vocab=vocab, num_beams=3)
    np.testing.assert_array_equal(trie.rank(vocab.to_codes(sequences[:, 62:].numpy())), expected.items[0])


class Never(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return torch.zeros(len(input_ids), dtype=torch.bool)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"max_time": 5.0}, "MaxTimeCriteria"),
        ({"stopping_criteria": [MaxTimeCriteria(5.0)]}, "MaxTimeCriteria"),
        ({"stopping_criteria": [Never()]}, "Never"),
    ],
)
def test_stopping_criteria_are_refused(model, trie, vocab, make_inputs, options, name):
    message = (
        f"stopping criteria are not applied by this search: expected none, got ['{name}']. Leave them, max_time and "
        "stop_strings out: every answer has one token per level."
    )
    with refused(message):
        call(model, make_inputs(1), trie, vocab, **options)


def test_caches_are_refused(model, trie, vocab, make_inputs):
    inputs, config = make_inputs(1), model.config
    of_self = DynamicCache(config=config)
    caches = [StaticCache(config=config, max_cache_len=20)]
    if MARKS_CACHES:  # else an empty one passed by the caller is like generate's own, and nothing is lost
        own = EncoderDecoderCache(of_self, DynamicCache(config=config)) if config.is_encoder_decoder else of_self
        caches = [own] if config.is_encoder_decoder else [*caches, own]
    for cache in caches:
        message = (
            "a cache cannot be passed: expected no cache and no cache_implementation, got a "
            f"{type(cache).__name__}. Leave them out: the search keeps its own cache, one row per request."
        )
        with refused(message):
            call(model, inputs, trie, vocab, **{CACHE: cache})
    # A torch for CUDA without a driver fails as `generate` makes an offloaded cache.
    offloads = torch.version.cuda is None or torch.cuda.is_available()
    for implementation in ("static", "offloaded") if offloads else ("static",):
        with refused(f"expected no cache and no cache_implementation, got '{implementation}'. Leave"):
            call(model, inputs, trie, vocab, cache_implementation=implementation)


def test_draws_are_asked_of_the_search(model, trie, vocab, make_inputs):
    inputs = make_inputs(1)
    with refused(
        "the search was not told to draw: expected do_sample=False, got do_sample=True. Give do_sample=True to beam_s"
    ):
        call(model, inputs, trie, vocab, do_sample=True, top_k=0)
    search = beam_search(trie=trie, vocab=vocab, num_beams=3, do_sample=True, seed=4)
    drawn = model.generate(**inputs, custom_generate=search, max_new_tokens=3, do_sample=True, top_k=0)
    expected = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=3, do_sample=True, seed=4)
    np.testing.assert_array_equal(trie.rank(vocab.to_codes(drawn[:, -3:].numpy())), expected.items[0])


def test_inputs_that_are_not_read(trie, vocab, make_inputs):
    inputs = make_inputs(1)
    message = "inputs are not read by this search: expected input_ids and attention_mask, got {} as well. Leave them"
    with refused(message.format(["token_type_ids"])):
        call(tiny_model("gpt2"), inputs, trie, vocab, token_type_ids=torch.ones_like(inputs["input_ids"]))
    with refused(message.format(["inputs_embeds"])):
        call(tiny_model("qwen2"), {"inputs_embeds": torch.zeros(1, 4, 32)}, trie, vocab)
    with refused(message.format(["decoder_attention_mask"])):
        call(tiny_model("t5"), inputs, trie, vocab, decoder_attention_mask=torch.ones(1, 1, dtype=torch.long))


@pytest.mark.parametrize(
    "ignored",
    [{"length_penalty": 3.0}, {"early_stopping": True}, {"use_cache": False}, {"prompt_lookup_num_tokens": 2},
     {"eos_token_id": 2}, {"cache_implementation": "dynamic"}],
    ids=str,
)  # fmt: skip
def test_what_leaves_the_result_as_it_is(model, trie, vocab, make_inputs, ignored):
    inputs = make_inputs(2)
    options = dict(return_dict_in_generate=True)
    expected, found = (call(model, inputs, trie, vocab, **options, **more) for more in ({}, ignored))
    assert found.sequences.equal(expected.sequences) and found.sequences_scores.equal(expected.sequences_scores)


def test_an_assistant_is_not_handed_on(model, trie, vocab, make_inputs):
    """Nobody but generate sees it; should a later release hand it on, its place is among what is refused."""
    inputs = make_inputs(1)
    expected = call(model, inputs, trie, vocab)
    assert call(model, inputs, trie, vocab, assistant_model=model).equal(expected)


def test_a_mask_of_bools(model, trie, vocab, make_inputs):
    inputs = make_inputs(3)
    expected = call(model, inputs, trie, vocab)
    found = call(model, {**inputs, "attention_mask": inputs["attention_mask"].bool()}, trie, vocab)
    assert found.equal(expected)
