"""The recursion, the losses and who learns from what, against float64 references; then starts and revival."""

import dataclasses

import numpy as np
import pytest
import torch
from oracles import (
    StopGradient,
    perceptron_oracle,
    shared_specific_loss_oracle,
    sinkhorn_oracle,
    slopes_oracle,
)
from sklearn.cluster import KMeans

from semid.errors import InvalidValueError
from semid.quantizers.networks.building import start_from_batch, start_from_rows
from semid.quantizers.networks.fitting import collision_rate, encode_all, relative_error
from semid.quantizers.networks.options import RECIPES
from semid.quantizers.networks.shared_specific import SharedSpecificNetwork

PUBLISHED = dataclasses.replace(RECIPES["gensar"], sinkhorn_epsilon=0.0)
DIMS = {"semantic": 4, "collaborative": 3}
LATENT_DIMS = {"semantic": 2, "collaborative": 3}


def make_network(n_shared=2, n_specific=2, *, recipe=PUBLISHED, dims=DIMS, latent_dims=LATENT_DIMS, size=5, seed=0):
    torch.manual_seed(seed)
    network = SharedSpecificNetwork(
        dims,
        latent_dims,
        hidden_sizes=(4,),
        shared_sizes=(size,) * n_shared,
        specific_sizes=(size,) * n_specific,
        recipe=recipe,
    ).double()
    for depth, book in enumerate(list(network.books)):
        book.data.normal_().mul_(0.8**depth)
    network.started.fill_(True)
    return network


def make_views(n_items=6, dims=DIMS, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n_items, dim, generator=generator, dtype=torch.float64) for dim in dims.values()]


def arrays_of(network):
    """Return the parameters as the oracle wants them, sharing memory with the network, and as a flat list."""

    def layers(perceptron):
        return [(each.weight.detach().numpy(), each.bias.detach().numpy()) for each in perceptron
                if isinstance(each, torch.nn.Linear)]  # fmt: skip

    params = {
        "encoders": [layers(each) for each in network.encoders],
        "decoders": [layers(each) for each in network.decoders],
        "shared": [book.detach().numpy() for book in network.shared],
        "specific": [[book.detach().numpy() for book in books] for books in network.specific],
    }
    return params, [each.detach().numpy() for each in network.parameters()]


THREE = {"a": 2, "b": 3, "c": 1}


@pytest.mark.parametrize("committed_levels", ["first", "all"])
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"n_shared": 0},
        {"n_specific": 0},
        {"n_shared": 1, "n_specific": 1, "dims": THREE, "latent_dims": {"a": 1, "b": 2, "c": 1}},
    ],
    ids=["2 + 2", "0 + 2", "2 + 0", "three views"],
)
def test_losses_and_every_gradient_agree_with_float64_differences(shape, committed_levels):
    recipe = dataclasses.replace(PUBLISHED, committed_levels=committed_levels)
    network = make_network(recipe=recipe, **shape)
    views = make_views(dims=shape.get("dims", DIMS))
    params, flat = arrays_of(network)
    stop = StopGradient()

    def loss():
        return shared_specific_loss_oracle(
            params, [view.numpy() for view in views], 0.25, stop, all_levels=committed_levels == "all"
        )

    expected, codes = loss()
    terms = network.losses(views)
    assert float(terms["loss"].detach()) == pytest.approx(expected, rel=1e-12)
    out = network(views)
    found = out.shared.codes + [code for own in out.specific for code in own.codes]
    for ours, theirs in zip(found, codes, strict=True):
        np.testing.assert_array_equal(ours, theirs)

    terms["loss"].backward()

    def replayed():
        stop.replay()
        return loss()[0]

    for parameter, slope in zip(network.parameters(), slopes_oracle(replayed, flat), strict=True):
        np.testing.assert_allclose(parameter.grad, slope, atol=1e-8)


def latents_with_gradient():
    return [torch.randn(6, dim, dtype=torch.float64, requires_grad=True) for dim in LATENT_DIMS.values()]


def test_published_commitment_reaches_the_encoders_from_the_first_level_alone():
    network, latents = make_network(), latents_with_gradient()
    shared, specific = network.quantize(latents)
    first, *later = shared.losses + [loss for own in specific for loss in own.losses]
    z = torch.cat(latents, dim=1)
    expected = 2 * 0.25 * (z - network.shared[0][shared.codes[0]]) / z.numel()
    found = torch.cat(torch.autograd.grad(first, latents, retain_graph=True), dim=1)
    torch.testing.assert_close(found, expected.detach())
    for loss in later:
        assert torch.autograd.grad(loss, latents, retain_graph=True, allow_unused=True) == (None, None)


def test_our_commitment_reaches_the_encoders_from_every_level():
    network = make_network(recipe=dataclasses.replace(PUBLISHED, committed_levels="all"))
    latents = latents_with_gradient()
    shared, specific = network.quantize(latents)
    for losses, expected in [(shared.losses, (True, True)), (specific[0].losses, (True, False))]:
        for loss in losses:
            found = torch.autograd.grad(loss, latents, retain_graph=True)
            assert tuple(bool(gradient.any()) for gradient in found) == expected


def test_reconstruction_teaches_no_codebook_and_passes_straight_to_the_latents():
    network, views = make_network(), make_views()
    latents = [z.detach().requires_grad_() for z in network.encode(views)]
    network.encode = lambda _: latents
    out = network(views)
    books = list(network.books)
    assert torch.autograd.grad(out.reconstruction, books, retain_graph=True, allow_unused=True) == (None,) * 6
    read = [h.detach().requires_grad_() for h in network.quantized(latents)]
    direct = sum((x - y).square().mean() for x, y in zip(views, network.decode(read), strict=True))
    for found, expected in zip(
        torch.autograd.grad(out.reconstruction, latents), torch.autograd.grad(direct, read), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_sinkhorn_balances_the_last_specific_levels_in_training_only():
    network, views = make_network(recipe=RECIPES["gensar"], size=8), make_views(64)
    params, _ = arrays_of(network)

    def balance_last(name, x, book, nearest):
        if name[0] == "specific" and name[-1] == 1:
            return sinkhorn_oracle(((x[:, None] - book[None]) ** 2).sum(axis=2), 0.003, 50)
        return nearest

    arrays = [view.numpy() for view in views]
    for training, choose in [(True, balance_last), (False, None)]:
        network.train(training)
        out = network(views)
        _, codes = shared_specific_loss_oracle(params, arrays, 0.25, StopGradient(), choose=choose)
        found = out.shared.codes + [code for own in out.specific for code in own.codes]
        for ours, theirs in zip(found, codes, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_rotation_is_another_gradient_with_the_same_values():
    rotated = make_network(recipe=dataclasses.replace(PUBLISHED, gradient="rotation"))
    straight, views = make_network(), make_views()
    for network in (rotated, straight):
        network.losses(views)["loss"].backward()
    torch.testing.assert_close(rotated(views).reconstruction, straight(views).reconstruction)
    assert not torch.allclose(rotated.encoders[0][0].weight.grad, straight.encoders[0][0].weight.grad)
    torch.testing.assert_close(rotated.decoders[0][0].weight.grad, straight.decoders[0][0].weight.grad)


def test_without_codebooks_it_is_an_autoencoder():
    network, views = make_network(), make_views()
    network.started.fill_(False)
    params, _ = arrays_of(network)
    expected = sum(
        ((x - perceptron_oracle(perceptron_oracle(x, encoder), decoder)) ** 2).mean()
        for x, encoder, decoder in zip(
            [view.numpy() for view in views], params["encoders"], params["decoders"], strict=True
        )
    )
    terms = network.losses(views)
    assert float(terms["loss"].detach()) == pytest.approx(expected) and "quantization" not in terms


def test_the_first_batch_starts_each_codebook_on_what_the_levels_before_leave():
    network, views = make_network(1, 2, recipe=RECIPES["gensar"]), make_views(40)
    network = network.float()
    views = [view.float() for view in views]
    for book in list(network.books):
        book.data.zero_()
    start_from_batch(network, views, seed=3)
    with torch.no_grad():
        latents = [z.numpy() for z in network.encode(views)]

    def kmeans(x):
        found = KMeans(5, max_iter=100, random_state=3).fit(x)
        return found.cluster_centers_, x - found.cluster_centers_[found.labels_]

    centres, rest = kmeans(np.concatenate(latents, axis=1))
    np.testing.assert_allclose(network.shared[0].detach(), centres, atol=1e-5)
    for columns, books in zip((slice(0, 2), slice(2, 5)), network.specific, strict=True):
        part = rest[:, columns]
        for book in books:
            centres, part = kmeans(part)
            np.testing.assert_allclose(book.detach(), centres, atol=1e-5)
    assert network.started and network.training


def test_a_batch_smaller_than_a_codebook_cannot_start_it():
    with pytest.raises(InvalidValueError, match=r"expected at least 5 rows, the codebook_size, got 4\. Raise batch_s"):
        start_from_batch(make_network(), make_views(4), seed=0)


def test_equal_rows_start_without_a_warning():
    network = make_network().float()
    start_from_batch(network, [torch.ones(9, dim) for dim in DIMS.values()], seed=0)
    assert all(torch.isfinite(book).all() for book in list(network.books))


def test_starting_from_all_rows_leaves_less_than_before_and_uses_all_codes():
    network, views = make_network(size=16).float(), [view.float() for view in make_views(400)]

    def load(rows):
        return [view[torch.from_numpy(rows)] for view in views]

    rows = np.arange(400)
    latents = encode_all(network, load, rows)
    before = sum(float(own.rest.square().sum()) for own in network.quantize(latents)[1])
    start_from_rows(network, latents, rng=np.random.default_rng(0))
    shared, specific = network.quantize(latents)
    assert sum(float(own.rest.square().sum()) for own in specific) < 0.3 * before
    assert all(len(code.unique()) >= 15 for code in shared.codes)


def test_dead_codes_move_to_residuals_and_get_chosen():
    network, views = make_network(), make_views(50)
    for book in list(network.books):
        book.data[3] = 1e3
    assert network.revive(views, torch.Generator().manual_seed(0)) >= 6
    assert all(float(book.detach().abs().max()) < 100 for book in list(network.books))


def test_error_and_collisions_are_those_of_definition():
    network, views = make_network(1, 1, size=3), make_views(30)

    def load(rows):
        return [view[torch.from_numpy(rows)] for view in views]

    rows = np.arange(30)
    with torch.no_grad():
        out = network.eval()(views)
    shares = [float((x - y).square().sum() / (x - x.mean(0)).square().sum())
              for x, y in zip(views, out.decoded, strict=True)]  # fmt: skip
    assert relative_error(network, load, rows) == pytest.approx(np.mean(shares))
    unique = [len({(int(a), int(b)) for a, b in zip(out.shared.codes[0], own.codes[0], strict=True)})
              for own in out.specific]  # fmt: skip
    assert collision_rate(network, load, rows) == pytest.approx(1 - sum(unique) / 60)
