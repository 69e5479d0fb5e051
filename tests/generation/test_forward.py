import contextlib
import copy
import inspect
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation import head as products
from semid.generation.forward import accepted_arguments
from semid.generation.head import AVAILABLE, Products, Tokens, linear, products_for
from semid.generation.inputs import check_model
from semid.generation.interface import cache_of
from semid.generation.probe import PLAIN, Abilities, abilities, head_of, open_forward


def whole_text_logits(model, prompt, answer):
    """Logits after prompt and answer, without padding, cache or batch."""
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            answer = [model.config.decoder_start_token_id, *answer]
            return model(input_ids=prompt[None], decoder_input_ids=torch.tensor([answer])).logits[0, -1]
        return model(input_ids=torch.cat([prompt, torch.tensor(answer, dtype=torch.long)])[None]).logits[0, -1]


WAYS = [PLAIN, *(Abilities(split, shared) for split in (False, True) for shared in (False, True))]


@pytest.mark.parametrize("found", WAYS, ids=str)
def test_every_step_equals_the_whole_text(any_model, make_inputs, found):
    """Beams that die, double, grow in number and shrink again; by every way that the model can go."""
    able = abilities(any_model)
    if found.shared > able.shared or found.split > able.split:
        pytest.skip(f"the model cannot: {able}")
    head, every = head_of(any_model, found), Tokens(torch.arange(70))
    inputs = make_inputs(3, side="right" if any_model.config.is_encoder_decoder else "left")
    prompts = [ids[mask.bool()] for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        forward = open_forward(any_model, inputs, n_levels=5, found=found)
        expected = torch.stack([whole_text_logits(any_model, prompt, []) for prompt in prompts])
        torch.testing.assert_close(head.logits(forward.prompt(), every), expected, atol=1e-4, rtol=1e-4)
        answers = [[[]] for _ in prompts]
        for width, before in [(3, 1), (5, 3), (5, 5), (2, 5)]:
            rows, tokens = rng.integers(0, before, (3, width)), rng.integers(40, 70, (3, width))
            answers = [
                [[*beams[row], int(token)] for row, token in zip(rows[request], tokens[request], strict=True)]
                for request, beams in enumerate(answers)
            ]
            logits = head.logits(forward.step(rows, tokens), every)
            assert logits.shape == (3 * width, 70)
            expected = [
                whole_text_logits(any_model, prompt, answer)
                for prompt, beams in zip(prompts, answers, strict=True)
                for answer in beams
            ]
            torch.testing.assert_close(logits, torch.stack(expected), atol=1e-4, rtol=1e-4)


def ones(*shape):
    return torch.ones(shape, dtype=torch.long)


RIGHT_PADDED = {"input_ids": ones(2, 3), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {},
            "inputs are wrong: expected a mapping with input_ids and others of ['attention_mask', 'input_ids'], got []",
        ),
        (ones(2, 3), "others of ['attention_mask', 'input_ids'], got Tensor. Pass what the tokenizer returns, less"),
        ({"input_ids": ones(1, 2), "inputs_embeds": ones(1, 2)}, "got ['input_ids', 'inputs_embeds']. Pass what"),
        ({"input_ids": ones(1, 2), "decoder_input_ids": ones(1, 2)}, "got ['decoder_input_ids', 'input_ids']. Pass"),
        ({"input_ids": [[1, 2]]}, "input_ids is wrong: expected a tensor of shape (batch, length), got list. Call the"),
        ({"input_ids": ones(3)}, "input_ids is wrong: expected a tensor of shape (batch, length), got (3,)"),
        ({"input_ids": ones(2, 0)}, "input_ids is wrong: expected a tensor of shape (batch, length), got (2, 0)"),
        (
            {"input_ids": ones(2, 3), "attention_mask": ones(2, 4)},
            "attention_mask has a wrong shape: expected (2, 3)",
        ),
        (
            {"input_ids": ones(2, 3), "attention_mask": ones(1, 3)},
            "attention_mask is wrong: expected a tensor of shape",
        ),
        (
            RIGHT_PADDED,
            "prompts are padded on the right: expected the last column of attention_mask to be 1, got 0. Set",
        ),
    ],
)
def test_wrong_inputs(decoder_only, inputs, message):
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        open_forward(decoder_only, inputs, n_levels=3)


def test_token_types_are_ignored_by_models_without_them(decoder_only, make_inputs):
    """A tokenizer adds them to every text; a model that would read them is asked about, not guessed."""
    inputs = make_inputs(2)
    typed = {**inputs, "token_type_ids": torch.zeros_like(inputs["input_ids"])}
    reads_them = "token_type_ids" in inspect.signature(decoder_only.forward).parameters
    if reads_them:
        with pytest.raises(InvalidValueError, match="token_type_ids"):
            open_forward(decoder_only, typed, n_levels=3)
    else:
        expected = open_forward(decoder_only, inputs, n_levels=3).prompt()
        assert (open_forward(decoder_only, typed, n_levels=3).prompt() == expected).all()


def test_wrong_models(decoder_only):
    with pytest.raises(InvalidTypeError, match="model has a wrong type: expected a transformers model, got Linear"):
        check_model(torch.nn.Linear(2, 2), last_token=60)
    message = r"vocabulary does not fit the model: expected token ids below 70, got 70\. Call vocab\.extend"
    with pytest.raises(InvalidValueError, match=message):
        check_model(decoder_only, last_token=70)
    decoder_only.train()
    try:
        with pytest.raises(InvalidValueError, match=r"model is in training mode: .* Call model\.eval\(\) first"):
            check_model(decoder_only, last_token=60)
    finally:
        decoder_only.eval()


def test_a_model_without_a_cache(decoder_only):
    message = r"keeps no cache that beams can share: .* got NoneType\. Use model\.generate with a SidLogitsProcessor"
    with pytest.raises(InvalidValueError, match=message):
        cache_of(decoder_only, SimpleNamespace(logits=None))


def test_a_decoder_without_a_start_token(encoder_decoder, make_inputs, monkeypatch):
    for config in (encoder_decoder.config, encoder_decoder.generation_config):
        monkeypatch.setattr(config, "decoder_start_token_id", None)
        monkeypatch.setattr(config, "bos_token_id", None, raising=False)
    with pytest.raises(InvalidValueError, match=r"no start token: .* Pass decoder_input_ids in inputs"):
        open_forward(encoder_decoder, make_inputs(1), n_levels=3)
    open_forward(encoder_decoder, make_inputs(1) | {"decoder_input_ids": ones(1, 1)}, n_levels=3)


def test_a_wrapper_that_hides_the_arguments(decoder_only):
    class Hiding(torch.nn.Module):
        def forward(self, *args, **kwargs):
            return decoder_only(*args, **kwargs)

    message = (
        r"Hiding hides what its forward pass takes: expected an argument input_ids, got \['args', 'kwargs'\]\. Pass"
    )
    with pytest.raises(InvalidValueError, match=message):
        accepted_arguments(Hiding())


def test_a_wrapped_model(decoder_only, make_inputs):
    """As PEFT wraps: the outer forward takes anything, the inner one says what it knows."""

    class Wrapped(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.config, self.device = inner, inner.config, inner.device
            self.get_input_embeddings, self.get_base_model = inner.get_input_embeddings, lambda: inner
            self.dtype, self.get_decoder = inner.dtype, inner.get_decoder
            self.get_output_embeddings = inner.get_output_embeddings
            self.eval()

        def forward(self, *args, **kwargs):
            return self.inner(*args, **kwargs)

    inputs = make_inputs(3)
    with torch.inference_mode():
        expected = open_forward(decoder_only, inputs, n_levels=3).prompt()
        wrapped = Wrapped(decoder_only)
        assert abilities(wrapped) == Abilities(True, True, several=True)
        assert torch.equal(open_forward(wrapped, inputs, n_levels=3).prompt(), expected)


@contextlib.contextmanager
def without_mkldnn():
    torch.backends.mkldnn.enabled = False  # its `flags` warn about TF32
    yield
    torch.backends.mkldnn.enabled = True


@pytest.mark.parametrize("shape", [(50, 512), (1, 512), (2, 30, 512), (700, 512)], ids=str)
@pytest.mark.parametrize("biased", [False, True])
@torch.no_grad()
def test_equal_to_torch(shape, biased):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(shape), torch.randn(300, 512), torch.randn(300) if biased else None
    expected = torch.nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    torch.testing.assert_close(linear(x, weight, bias).double(), expected, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(linear(x, weight[40:97]), linear(x, weight)[..., 40:97], atol=1e-3, rtol=1e-5)
    with without_mkldnn():
        assert torch.equal(linear(x, weight, bias), torch.nn.functional.linear(x, weight, bias))


@pytest.mark.skipif(not AVAILABLE, reason="the processor has no AVX-512")
def test_what_goes_which_way(monkeypatch):
    calls = []
    fast = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *args: calls.append(args[0].shape) or fast(*args))
    layer, x = torch.nn.Linear(512, 512), torch.randn(50, 512)
    small, half = torch.nn.Linear(64, 64), copy.deepcopy(layer).bfloat16()
    with torch.no_grad():
        layer(x)
        assert calls == []  # the context alone changes something
        with Products():
            layer(x)
            assert calls == [(50, 512)]
            small(x[:, :64])
            half(x.bfloat16())
            torch.nn.functional.linear(x, weight=layer.weight)
            assert calls == [(50, 512)] * 2
            with without_mkldnn():
                layer(x)
        layer(x)
    with Products():
        layer(x).sum().backward()  # gradients go the usual way
    assert calls == [(50, 512)] * 2 and layer.weight.grad is not None


@pytest.mark.parametrize("normalize", ["full", "window"])
def test_a_search_finds_the_same(any_model, trie, vocab, make_inputs, normalize, monkeypatch):
    monkeypatch.setattr(products, "WORTH_IT", 1)
    options = dict(trie=trie, vocab=vocab, num_beams=20, normalize=normalize)
    found = semid.generate(any_model, make_inputs(3), **options)
    with without_mkldnn():
        expected = semid.generate(any_model, make_inputs(3), **options)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.skipif(not AVAILABLE, reason="the processor has no AVX-512")
def test_no_context_where_nothing_would_go_to_onednn():
    """It costs every operation of a model's passes."""
    cpu = torch.device("cpu")
    assert isinstance(products_for(torch.float32, cpu), Products)
    for context in (products_for(torch.bfloat16, cpu), products_for(torch.float32, torch.device("meta"))):
        assert isinstance(context, contextlib.nullcontext)
    with without_mkldnn():
        assert isinstance(products_for(torch.float32, cpu), contextlib.nullcontext)
