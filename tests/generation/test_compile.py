"""A model that torch.compile has wrapped: what it decodes is what it decodes without."""

import copy

import numpy as np
import pytest
import torch

import semid
from semid.generation import head as products
from semid.generation.probe import abilities
from tests.generation.conftest import tiny_model


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("kind", ["qwen2", "t5"])
def test_a_wrapped_model(kind, trie, vocab, make_inputs):
    """The search runs the decoder and the output layer that the wrapper holds."""
    model, inputs = tiny_model(kind), make_inputs(2)
    compiled = torch.compile(copy.deepcopy(model), backend="eager")
    assert abilities(compiled) == abilities(model)
    options = dict(trie=trie, vocab=vocab, num_beams=5)
    expected = semid.generate(model, inputs, **options)
    np.testing.assert_array_equal(semid.generate(compiled, inputs, **options).items, expected.items)
    scores = semid.score_items(compiled, inputs, trie=trie, vocab=vocab, candidates=expected.items)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)


@pytest.mark.parametrize(("kind", "name"), [("qwen2", "mlp"), ("t5", "DenseReluDense")])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_layers(kind, name, backend, trie, vocab, make_inputs, monkeypatch):
    """Layers compiled in place run compiled, also within the search's own context for products.

    A whole decoder takes half a minute to compile, and does the same.
    """
    monkeypatch.setattr(products, "WORTH_IT", 1)
    model, inputs = tiny_model(kind), make_inputs(2)
    compiled = copy.deepcopy(model)
    for path, module in compiled.named_modules():
        if path.endswith(name):
            module.compile(backend=backend)
    options = dict(trie=trie, vocab=vocab, num_beams=5)
    expected = semid.generate(model, inputs, **options)
    torch._dynamo.utils.counters.clear()
    found = semid.generate(compiled, inputs, **options)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
