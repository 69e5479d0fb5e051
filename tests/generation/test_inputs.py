"""What goes wrong in practice, through the public functions: each says what it expected, what it got and what to do."""

import copy
import inspect
import re
import warnings

import numpy as np
import pytest
import torch
import transformers
from transformers import Qwen2ForCausalLM, StaticCache, XLNetConfig, XLNetLMHeadModel

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation import beam_search
from semid.generation.interface import GUESSES_ENCODER_PADDING
from tests.generation.conftest import tiny_model


def refused(message):
    return pytest.raises(InvalidValueError, match=re.escape(message))


@pytest.fixture(params=["generate", "score_items"])
def call(request, trie, vocab):
    """Either public function, on as many rows as the inputs have."""

    def run(model, inputs):
        if request.param == "generate":
            return semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=4)
        candidates = [range(5)] * len(inputs["input_ids"])
        return semid.score_items(model, inputs, trie=trie, vocab=vocab, candidates=candidates)

    return run


def test_a_prompt_longer_than_the_positions(call, make_inputs):
    gpt2, bart = tiny_model("gpt2"), tiny_model("bart")  # with 64 and 1,024 positions
    call(gpt2, make_inputs(1, length=62, ragged=False))  # the last of three tokens is never read
    message = (
        "a prompt is longer than the model's positions: expected at most 62 tokens before the answer, got 63. Trunc"
    )
    with refused(message):
        call(gpt2, make_inputs(1, length=63, ragged=False))
    padded = make_inputs(1, length=70, ragged=False)
    padded["attention_mask"][:, :10] = 0  # padding takes no positions
    call(gpt2, padded)
    with refused("expected at most 1024 tokens before the answer, got 1025. Truncate the prompts."):
        call(bart, make_inputs(1, length=1025, ragged=False))


@pytest.mark.parametrize(
    ("ids", "got"),
    [([[3, 70]], "torch.int64 from 3 to 70"), ([[-100, 3]], "torch.int64 from -100 to 3"),
     ([[3.0, 4.0]], "torch.float32 from 3.0 to 4.0")],
)  # fmt: skip
def test_prompts_that_are_no_tokens(call, model, ids, got):
    with refused(
        f"input_ids are not tokens of the model: expected integers from 0 to 69, got {got}. Use the model's own"
    ):
        call(model, {"input_ids": torch.tensor(ids)})


def test_a_cache_as_input(call, make_inputs):
    model = tiny_model("qwen2")
    inputs = {**make_inputs(1), "past_key_values": StaticCache(config=model.config, max_cache_len=20)}
    with refused("a cache cannot be passed: expected prompts, got a StaticCache. Pass whole prompts: the search keeps"):
        call(model, inputs)


@pytest.mark.parametrize("setting", [("generation_config", "cache_implementation", "static"),
                                     ("config", "use_cache", False)])  # fmt: skip
def test_settings_of_the_cache_do_not_matter(call, model, make_inputs, setting):
    """Those of `model.generate`: the search keeps its own, one row per request."""
    owner, name, value = setting
    changed, inputs = copy.deepcopy(model), make_inputs(2)
    setattr(getattr(changed, owner), name, value)
    expected, found = call(model, inputs), call(changed, inputs)
    np.testing.assert_array_equal(*(getattr(out, "items", out) for out in (expected, found)))


def test_an_output_layer_without_the_tokens(call, make_inputs):
    behind = copy.deepcopy(tiny_model("llama"))
    behind.lm_head = torch.nn.Linear(32, 60, bias=False)
    with refused("the vocabulary does not fit the model: expected token ids below 60, got 63. Call vocab.extend"):
        call(behind, make_inputs(1))


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (
            lambda *io: io[-1][..., :45],
            "the model's logits have a wrong shape: expected more than 47 columns, got 45. Rem",
        ),
        (
            lambda *io: io[-1].repeat(2, 1, 1),
            "the model's output has a wrong shape: expected 2 rows at level 0, got shape (4, 70). Remove the hook",
        ),
    ],
    ids=["columns", "rows"],
)
def test_logits_whose_shape_something_changes(trie, vocab, make_inputs, hook, message):
    hooked = copy.deepcopy(tiny_model("qwen2"))
    hooked.lm_head.register_forward_hook(hook)
    with refused(message):
        semid.generate(hooked, make_inputs(2), trie=trie, vocab=vocab, num_beams=4)


def test_a_processor_that_changes_the_shape(model, trie, vocab, make_inputs):
    """No processor is applied: neither one that changes the shape of the scores nor one that does not."""

    class HalveScores(semid.SidLogitsProcessor.__mro__[1]):
        def __call__(self, input_ids, scores):
            return scores[:, ::2]

    search = beam_search(trie=trie, vocab=vocab, num_beams=3)
    with refused(
        "logits processors are not applied by this search: expected none, got ['HalveScores']. Give do_sample"
    ):
        model.generate(**make_inputs(1), custom_generate=search, max_new_tokens=3, logits_processor=[HalveScores()])


@pytest.mark.parametrize("normalize", ["full", "window", "allowed"])
@pytest.mark.parametrize("do_sample", [False, True])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_logits_that_are_no_numbers(model, trie, vocab, make_inputs, normalize, do_sample, level):
    """The error names the step; in "full" mode any token of the vocabulary spoils the first."""
    broken = copy.deepcopy(model)
    head = broken.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)  # not the embeddings
    head.weight[vocab.level_tokens[level][3]] = torch.nan
    seen = 0 if normalize == "full" else level
    with refused(f"the model's logits are not numbers: expected numbers at level {seen}, got nan. Check its weights;"):
        semid.generate(
            broken, make_inputs(1), trie=trie, vocab=vocab, num_beams=50, normalize=normalize, do_sample=do_sample
        )


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8], ids=str)
def test_prompts_of_narrow_integers(call, model, make_inputs, dtype):
    inputs = make_inputs(3, side="right" if model.config.is_encoder_decoder else "left")
    found, expected = call(model, {name: value.to(dtype) for name, value in inputs.items()}), call(model, inputs)
    if isinstance(found, semid.generation.BeamOutput):
        found, expected = found.scores, expected.scores
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mask", [{}, {"attention_mask": None}], ids=["left away", "None"])
def test_padding_without_a_mask(model, trie, vocab, make_inputs, prompt_len, mask):
    """`generate` reads it off the pad token, since 5.2 for decoder-only models alone; so it is here."""
    inputs, options = make_inputs(3), dict(trie=trie, vocab=vocab, num_beams=5)
    alone, start = {"input_ids": inputs["input_ids"]}, prompt_len(model, inputs)
    found = semid.generate(model, alone | mask, **options)
    if model.config.is_encoder_decoder and not GUESSES_ENCODER_PADDING:
        inputs["attention_mask"][:] = 1
    np.testing.assert_array_equal(found.scores, semid.generate(model, inputs, **options).scores)
    theirs = model.generate(
        **alone, logits_processor=[semid.SidLogitsProcessor(trie, vocab, prompt_len=start)], num_beams=5,
        num_return_sequences=5, max_new_tokens=3,
    )  # fmt: skip
    read = semid.generation.read_beams(theirs, trie=trie, vocab=vocab, prompt_len=start, num_return=5)
    np.testing.assert_array_equal(found.items, read.items)


def test_prompts_padded_on_the_right_without_a_mask(call, make_inputs):
    with refused("prompts are padded on the right: expected the last column of attention_mask to be 1, got 0. Set"):
        call(tiny_model("qwen2"), {"input_ids": make_inputs(3)["input_ids"].flip(1)})


@pytest.mark.parametrize("ends", [0, [1, 0]], ids=str)
def test_a_pad_token_that_ends_texts_is_no_padding(model, trie, vocab, make_inputs, ends):
    """As in `generate`: many models have no other token to pad with, and it may stand in a prompt."""
    changed = copy.deepcopy(model)
    changed.generation_config.eos_token_id = ends
    inputs = make_inputs(2, ragged=False)
    inputs["input_ids"][:, 3] = 0
    options = dict(trie=trie, vocab=vocab, num_beams=5)
    found = semid.generate(changed, {"input_ids": inputs["input_ids"]}, **options)
    np.testing.assert_array_equal(found.scores, semid.generate(model, inputs, **options).scores)


def test_a_model_without_weights(call, model, make_inputs):
    with refused("the model has no weights: expected weights in memory, got the meta device. Load them first."):
        call(copy.deepcopy(model).to("meta"), make_inputs(1))


def test_a_model_that_returns_no_logits(call, make_inputs):
    """One that says it can generate, such as one with a wrapper around it."""
    model = copy.deepcopy(tiny_model("qwen2"))

    def without_logits(module, arguments, output):
        output.logits = None
        return output

    model.register_forward_hook(without_logits)
    message = "expected one that returns logits, got Qwen2ForCausalLM. Pass the model with its language modelling head"
    with pytest.raises(InvalidTypeError, match=re.escape(message)):
        call(model, make_inputs(1))


@pytest.mark.parametrize("name", ["exclude", "candidates"])
def test_ranks_that_are_no_lists(model, trie, vocab, make_inputs, name):
    message = rf"{name} has a wrong type: expected 2 sequences of ranks, got 3\. Give one sequence per request"
    with pytest.raises(InvalidTypeError, match=message):
        semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=3, **{name: 3})


def test_a_number_of_beams_is_no_truth_value(model, trie, vocab, make_inputs):
    with pytest.raises(InvalidTypeError, match=r"num_beams is not an integer: expected 1 or more, got True\. Search"):
        semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=True)


@pytest.mark.parametrize("headless", ["GPT2Model", "BertModel", "T5EncoderModel", "T5Stack", "T5Model"])
def test_a_model_without_an_output_layer(call, make_inputs, headless):
    gpt2, t5 = tiny_model("gpt2"), copy.deepcopy(tiny_model("t5"))  # an encoder of its own changes the configuration
    config = transformers.BertConfig(
        vocab_size=70, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48
    )
    model = {
        "GPT2Model": lambda: gpt2.transformer,
        "BertModel": lambda: transformers.BertModel(config).eval(),
        "T5EncoderModel": lambda: transformers.T5EncoderModel(copy.deepcopy(t5.config)).eval(),
        "T5Stack": lambda: t5.encoder,
        "T5Model": lambda: transformers.T5Model(copy.deepcopy(t5.config)).eval(),
    }[headless]()
    message = (
        f"the model writes no tokens: expected one with a language-model head, got {headless}. Load it with "
        "AutoModelForCausalLM or AutoModelForSeq2SeqLM."
    )
    with pytest.raises(InvalidTypeError, match=re.escape(message)):
        call(model, make_inputs(2))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float32, torch.float16])
def test_the_dtype_of_a_mask_does_not_matter(call, model, make_inputs, dtype):
    inputs = make_inputs(3)
    expected, found = call(model, inputs), call(model, {**inputs, "attention_mask": inputs["attention_mask"].to(dtype)})
    np.testing.assert_array_equal(*(getattr(out, "items", out) for out in (expected, found)))


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda mask: mask * 2, "torch.int64 from 0 to 2"),
        (lambda mask: -mask, "torch.int64 from -1 to 0"),
        (lambda mask: mask * 0.5, "torch.float32 from 0.0 to 0.5"),
        (lambda mask: mask * torch.nan, "torch.float32 from nan to nan"),
    ],
    ids=["twos", "negative", "weights", "nan"],
)
def test_a_mask_of_other_numbers(call, model, make_inputs, change, got):
    inputs = make_inputs(3)
    message = f"attention_mask is wrong: expected 1 for a token and 0 for padding, got {got}. Pass the one that came"
    with refused(message):
        call(model, {**inputs, "attention_mask": change(inputs["attention_mask"])})


def test_a_mask_of_complex_numbers(call, model, make_inputs):
    inputs = make_inputs(2)
    message = "attention_mask has a wrong dtype: expected integers or bool, got torch.complex64. Pass the tokenizer's."
    with pytest.raises(InvalidTypeError, match=re.escape(message)):
        call(model, {**inputs, "attention_mask": inputs["attention_mask"].to(torch.complex64)})


def test_a_prompt_that_is_all_padding(call, model, make_inputs):
    inputs = make_inputs(3)
    inputs["attention_mask"][1] = 0
    with refused("a prompt is empty: expected a 1 in each row of attention_mask, got none in row 1. Leave it out."):
        call(model, inputs)


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_prompts_of_a_dtype_that_no_model_reads(call, model, make_inputs, dtype):
    inputs = make_inputs(2)
    message = f"input_ids has a wrong dtype: expected integers, got {dtype}. Call .long()."
    with pytest.raises(InvalidTypeError, match=re.escape(message)):
        call(model, {**inputs, "input_ids": inputs["input_ids"].to(dtype)})


def test_a_model_that_fails_is_named(trie, vocab, make_inputs):
    """Whatever a forward pass raises, one of our errors says so; what the machine lacks passes through."""
    for error in (RuntimeError("kaputt"), KeyError("kaputt"), ZeroDivisionError("kaputt")):

        class Broken(Qwen2ForCausalLM):
            def forward(self, *args, error=error, **kwargs):
                raise error

        Broken.forward.__signature__ = inspect.signature(Qwen2ForCausalLM.forward)
        model = copy.deepcopy(tiny_model("qwen2"))
        model.__class__ = Broken
        message = (
            rf"Broken fails on a plain forward pass of 1 texts: expected logits, got {type(error).__name__}: .*kaputt"
        )
        for call in (
            lambda model=model: semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=3),
            lambda model=model: semid.score_items(model, make_inputs(1), trie=trie, vocab=vocab, candidates=[[1]]),
        ):
            with pytest.raises(InvalidValueError, match=message):
                call()


def test_weights_that_are_no_tensors(trie, vocab, make_inputs):
    """torch's dynamically quantized layers have a function in place of a weight."""
    model, inputs = copy.deepcopy(tiny_model("llama")), make_inputs(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    # Their activations are scaled by batch, so that no two ways give the same numbers.
    found = semid.generate(quantized, inputs, trie=trie, vocab=vocab, num_beams=50)
    assert (found.n_valid == 50).all() and np.isfinite(found.scores).all()
    assert np.isfinite(semid.score_items(quantized, inputs, trie=trie, vocab=vocab, candidates=found.items)).all()


def test_a_model_without_a_limit_of_positions(trie, vocab, make_inputs):
    """Some configs write it as -1."""
    model = copy.deepcopy(tiny_model("llama"))
    expected = semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=5)
    model.config.max_position_embeddings = -1
    np.testing.assert_array_equal(
        semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=5).items, expected.items
    )


def test_a_model_with_memories_is_refused(trie, vocab, make_inputs):
    """What XLNet writes with its memories is not what it reads in the whole text."""
    sizes = dict(vocab_size=70, d_model=32, n_layer=2, n_head=4, d_inner=48)
    model = XLNetLMHeadModel(XLNetConfig(**sizes, pad_token_id=0, eos_token_id=1, bos_token_id=2)).eval()
    for call in (
        lambda: semid.generate(model, make_inputs(2), trie=trie, vocab=vocab, num_beams=5),
        lambda: semid.score_items(model, make_inputs(2), trie=trie, vocab=vocab, candidates=[[0], [1]]),
        lambda: semid.Generator(model, trie=trie, vocab=vocab, num_beams=5)(make_inputs(2)),
    ):
        with pytest.raises(InvalidValueError, match="XLNetLMHeadModel keeps memories"):
            call()


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_an_offloaded_model(kind, trie, vocab, make_inputs, caplog):
    """Between passes its weights are on "meta"; the fast ways are taken all the same."""
    accelerate = pytest.importorskip("accelerate")
    model, inputs = tiny_model(kind), make_inputs(2)
    offloaded = accelerate.cpu_offload(copy.deepcopy(model), execution_device=torch.device("cpu"))
    assert offloaded.device.type == "meta"
    expected = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=5)
    found = semid.generate(offloaded, inputs, trie=trie, vocab=vocab, num_beams=5)
    np.testing.assert_array_equal(found.items, expected.items)
    scores = semid.score_items(offloaded, inputs, trie=trie, vocab=vocab, candidates=found.items)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-5)
    assert "slow" not in caplog.text
