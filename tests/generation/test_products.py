import contextlib
import copy

import numpy as np
import pytest
import torch

import semid
from semid.generation import forward as products
from semid.generation.forward import AVAILABLE, Products, linear, products_for


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
