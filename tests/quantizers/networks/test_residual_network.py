"""The recursion, the loss and its gradients against float64 references."""

import numpy as np
import pytest
import torch
from oracles import StopGradient, rqvae_loss_oracle, slopes_oracle

from semid.quantizers.networks.modules import sinkhorn_assign, squared_distances
from semid.quantizers.networks.options import CodeLearning
from semid.quantizers.networks.residual import ResidualNetwork

SIZES = (4, 3)


def build(**learning):
    """Return a network in float64 whose codebooks lie among its latents, and a batch."""
    torch.manual_seed(0)
    network = ResidualNetwork(
        5, hidden_sizes=(6,), latent_dim=3, codebook_sizes=SIZES, learning=CodeLearning(**learning)
    ).double()
    for layer in [*network.encoder[::2], *network.decoder[::2]]:
        torch.nn.init.normal_(layer.bias, std=0.1)
    books = [torch.randn(size, 3, dtype=torch.float64) for size in SIZES]
    network.set_codebooks(books, [torch.full((size,), 2.0, dtype=torch.float64) for size in SIZES])
    network.latents = lambda x: network.encoder(x)  # the networks' own go through float32
    network.decode = lambda z: network.decoder(z)
    return network, torch.randn(12, 5, dtype=torch.float64)


def arrays_of(network):
    layers = {name: [(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
                     for layer in sequence[::2]]
              for name, sequence in (("encoder", network.encoder), ("decoder", network.decoder))}  # fmt: skip
    return layers | {"codebooks": [book.detach().numpy().copy() for book in network.codebooks]}


@pytest.mark.parametrize("update", ["loss", "ema"])
def test_loss_and_gradients(update):
    network, x = build(update=update, gradient="straight-through", commitment=0.3)
    params = arrays_of(network)
    network.eval()  # averages would move the codebooks
    terms = network.losses(x)
    terms["loss"].backward()
    stop = StopGradient()
    loss, _, reconstruction = rqvae_loss_oracle(params, x.numpy(), 0.3, stop, update=update)
    assert terms["loss"].item() == pytest.approx(loss, rel=1e-12)
    assert terms["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-12)
    assert terms["quantization"].item() == pytest.approx(loss - reconstruction, rel=1e-12)

    def replayed():
        stop.replay()
        return rqvae_loss_oracle(params, x.numpy(), 0.3, stop, update=update)[0]

    flat = [array for name in ("encoder", "decoder") for layer in params[name] for array in layer]
    found = [each.grad for sequence in (network.encoder, network.decoder) for layer in sequence[::2]
             for each in (layer.weight, layer.bias)]  # fmt: skip
    for slope, gradient in zip(slopes_oracle(replayed, flat), found, strict=True):
        np.testing.assert_allclose(gradient, slope, atol=1e-7)
    slopes = slopes_oracle(replayed, params["codebooks"])
    for slope, book in zip(slopes, network.codebooks, strict=True):
        np.testing.assert_allclose(0.0 if book.grad is None else book.grad, slope, atol=1e-7)
    assert (update == "loss") == any(slope.any() for slope in slopes)


def test_every_level_commits_the_encoder():
    """Without the decoder's part, the gradient at the latents is that of all levels' commitments together."""
    network, x = build(update="ema", commitment=1.0)
    network.decode = lambda z: x + 0 * z.sum()
    network.eval()
    z = network.encoder(x).detach().requires_grad_()
    network.latents = lambda x: z
    network.losses(x)["loss"].backward()
    first = z - network.codebooks[0][squared_distances(z, network.codebooks[0]).argmin(1)]
    second = first - network.codebooks[1][squared_distances(first, network.codebooks[1]).argmin(1)]
    np.testing.assert_allclose(z.grad, (2 * (first + second) / z.numel()).detach(), atol=1e-14)


@pytest.mark.parametrize("training", [True, False])
def test_only_training_counts_codes_and_moves_averages(training):
    network, x = build()
    before = [book.clone() for book in network.codebooks]
    network.train(training).losses(x)
    assert [int(counts.sum()) for counts in network.counts] == [12 * training] * 2
    assert all((book != old).any() == training for book, old in zip(network.codebooks, before, strict=True))


def test_without_codebooks_it_is_an_autoencoder():
    network, x = build()
    network.started.fill_(False)
    terms = network.losses(x)
    assert terms.keys() == {"loss", "reconstruction"}
    expected = ((network.decoder(network.encoder(x)) - x) ** 2).mean()
    assert terms["loss"].item() == pytest.approx(expected.item())


def test_sinkhorn_balances_the_chosen_level_in_training_only(monkeypatch):
    called = []
    module = "semid.quantizers.networks.residual.sinkhorn_assign"
    monkeypatch.setattr(module, lambda d, **kw: called.append((d.shape, kw)) or sinkhorn_assign(d, **kw))
    network, x = build(sinkhorn_levels=(-1,), sinkhorn_epsilon=0.5, sinkhorn_iterations=7)
    network.eval().losses(x)
    assert called == []
    network.train().losses(x)
    assert called == [((12, 3), {"epsilon": 0.5, "n_iterations": 7})]
    assert network.counts[1].max() <= 6


def test_cosine_latents_have_one_length(rng):
    network = ResidualNetwork(
        5, hidden_sizes=(6,), latent_dim=4, codebook_sizes=(2,), learning=CodeLearning(distance="cosine")
    )
    z = network.latents(torch.tensor(rng.normal(size=(7, 5)), dtype=torch.float32))
    np.testing.assert_allclose(z.detach().norm(dim=1), 2.0, rtol=1e-6)


def test_low_precision_is_inside_the_layers_only(rng):
    """autocast to bfloat16 works on every processor; what comes out of the layers is float32 again."""
    torch.manual_seed(0)
    network = ResidualNetwork(
        8, hidden_sizes=(16,), latent_dim=4, codebook_sizes=(4,), learning=CodeLearning(), low_precision=True
    )
    x = torch.tensor(rng.normal(size=(9, 8)), dtype=torch.float32)
    z = network.latents(x)
    assert z.dtype == network.decode(z).dtype == torch.float32
    exact = network.encoder(x)
    assert 0 < (z - exact).abs().max().item() < 0.05 * exact.abs().max().item()
    network.losses(x)["loss"].backward()
    assert all(layer.weight.grad.dtype == torch.float32 for layer in network.encoder[::2])


def test_revival_reaches_every_level():
    network, x = build()
    with torch.no_grad():
        for book in network.codebooks:
            book[1:] = 1e3
    network.eval()
    assert network.revive(x, torch.Generator().manual_seed(0)) == 5
    assert all(book.max() < 100 for book in network.codebooks)
    rest = network.encoder(x).detach()
    for book in network.codebooks:  # a revived code lies on a row, which chooses it
        codes = squared_distances(rest, book).argmin(1)
        assert set(range(1, len(book))) <= set(codes.tolist())
        rest = rest - book[codes]
    network.train().losses(x)  # revived codes have weight in the moving averages
    assert all(book.max() < 100 for book in network.codebooks)


def test_counts_are_forgotten():
    network, x = build()
    network.train().losses(x)
    assert all(counts.any() for counts in network.take_counts())
    assert not any(counts.any() for counts in network.counts)
