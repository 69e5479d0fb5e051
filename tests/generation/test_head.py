import pytest
import torch

from semid.generation.head import CHUNK, LogitsHead, Tokens, WeightHead, find_head
from tests.generation.conftest import KINDS, tiny_model


def random_head(*, n_tokens=3_000, dim=6, bias=False, dtype=torch.float32, **options):
    torch.manual_seed(0)
    layer = torch.nn.Linear(dim, n_tokens, bias=bias).to(dtype).requires_grad_(False)
    layer.weight.normal_(0, 2)
    return WeightHead(layer, **options)


def plain_logits(head, features):
    """All logits at once, in the order of what a `WeightHead` does to them."""
    logits = torch.nn.functional.linear(features * head.scale, head.layer.weight, head.layer.bias) * head.factor
    if head.shift is not None:
        logits = logits + head.shift
    if head.softcap is not None:
        logits = torch.tanh(logits / head.softcap) * head.softcap
    return logits.float() / head.temperature


OPTIONS = {
    "plain": {},
    "bias": dict(bias=True),
    "scale": dict(scale=0.3),
    "factor and cap": dict(factor=0.7, softcap=3.0),
    "shift": dict(shift=torch.linspace(-3, 3, 3_000)),
    "cold": dict(temperature=0.4, softcap=3.0),
}


@pytest.mark.parametrize("rows", [1, 7, 200, CHUNK // 1_000])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_a_head_returns_of_all_logits(options, rows):
    head, features = random_head(**options), torch.randn(rows, 6)
    expected = plain_logits(head, features)
    scattered = torch.tensor([5, 2_999, 0, 17])
    for ids in (torch.arange(100, 300), scattered):
        torch.testing.assert_close(head.logits(features, Tokens(ids)), expected[:, ids], atol=1e-4, rtol=1e-4)
    picked = torch.arange(rows) % 3_000
    torch.testing.assert_close(head.pick(features, picked), expected[torch.arange(rows), picked], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(head.log_normalizer(features), expected.logsumexp(dim=1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_up_in_float32(dtype):
    head, features = random_head(dtype=dtype), torch.randn(5, 6, dtype=dtype)
    found = head.log_normalizer(features)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain_logits(head, features).logsumexp(dim=1), atol=1e-3, rtol=1e-3)


def test_tokens_that_are_closed_and_numbers_that_are_none():
    """A shift of -inf closes tokens, also whole blocks of them; NaN anywhere stays NaN."""
    shift = torch.zeros(3_000)
    shift[:1_200] = -torch.inf
    head, features = random_head(shift=shift), torch.randn(400, 6)
    expected = plain_logits(head, features)
    torch.testing.assert_close(head.log_normalizer(features), expected.logsumexp(dim=1), atol=1e-4, rtol=1e-4)
    shift[:] = -torch.inf
    assert (head.log_normalizer(features) == -torch.inf).all()
    shift[2_000] = torch.nan
    assert head.log_normalizer(features).isnan().all()


def test_nothing_is_written_to_the_weights():
    head, features = random_head(bias=True), torch.randn(3, 6)
    weight, bias, given = head.layer.weight.clone(), head.layer.bias.clone(), features.clone()
    first, second = head.log_normalizer(features), head.log_normalizer(features)
    assert torch.equal(first, second) and torch.equal(features, given)
    assert torch.equal(head.layer.weight, weight) and torch.equal(head.layer.bias, bias)


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_a_temperature_divides(temperature):
    features = torch.randn(3, 3_000)
    for head, read in ((LogitsHead(), features), (random_head(softcap=2.0), features[:, :6])):
        tempered, tokens, at = head.tempered(temperature), Tokens(torch.arange(10, 20)), torch.tensor([0, 9, 2_000])
        torch.testing.assert_close(tempered.logits(read, tokens), head.logits(read, tokens) / temperature)
        torch.testing.assert_close(tempered.pick(read, at), head.pick(read, at) / temperature)
        every = head.logits(read, Tokens(torch.arange(3_000)))
        expected = (every / temperature).logsumexp(dim=1)
        torch.testing.assert_close(tempered.log_normalizer(read), expected, atol=1e-4, rtol=1e-4)


def test_every_tested_family_has_a_plain_output_layer():
    assert all(find_head(tiny_model(kind)) is not None for kind in KINDS)
