"""Network quantizers: the cost of a training epoch beside the published step in plain PyTorch, and the codes in use."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import semid
from benchmarks.embeddings import clustered_embeddings
from benchmarks.rivals_networks import PlainIdentifier, train_epoch
from benchmarks.rivals_quantizers import use_threads
from benchmarks.side_by_side import side_by_side
from semid.quantizers import RECIPES, CodeLearning, Training

HIDDEN, LATENT_DIM = (512, 256, 128, 64), 32
# Epochs of the two fits whose difference is the time of an epoch without the start, and epochs until codes are counted.
FEW, MANY, COUNTED = 1, 4, 5
PUBLISHED = CodeLearning(update="loss", gradient="straight-through", revive_dead=False, sinkhorn_levels=(-1,))


@pytest.fixture(scope="module")
def full_size(request):
    return request.config.getoption("benchmark_enable")


@pytest.fixture(scope="module")
def codebook_size(full_size):
    return 256 if full_size else 16


@pytest.fixture(scope="module")
def views(full_size):
    """A semantic and a collaborative view of the same items, which share no cluster."""
    n_items, dims = (20_000, (384, 64)) if full_size else (400, (16, 8))
    return [clustered_embeddings(n_items, dim=dim, seed=seed) for seed, dim in enumerate(dims)]


def fit_plain(views, n_epochs, codebook_size, **levels):
    torch.manual_seed(0)
    model = PlainIdentifier([view.shape[1] for view in views], codebook_size=codebook_size, **levels)
    # Fused, the fastest of torch's; the published settings name none.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-5, fused=True)
    for epoch in range(n_epochs):
        train_epoch(model, optimizer, views, seed=epoch)
    return model


def fit_rqvae(X, n_epochs, codebook_size, learning, precision="float32"):
    training = Training(epochs=n_epochs, warmup_epochs=0, batch_size=1024, patience=0, precision=precision)
    return semid.RQVAE(
        3, codebook_size, hidden_sizes=HIDDEN, latent_dim=LATENT_DIM, learning=learning, training=training
    ).fit(X)


def fit_shared_specific(views, n_epochs, codebook_size, recipe, precision="float32"):
    recipe = RECIPES[recipe]
    settings = {"epochs": n_epochs, "warmup_epochs": 0, "batch_size": 1024, "patience": 0, "precision": precision}
    training = replace(recipe.training, **settings)
    return semid.SharedSpecificRQVAE(
        2, 2, codebook_size, hidden_sizes=HIDDEN, latent_dim=LATENT_DIM,
        recipe=replace(recipe, training=training),
    ).fit(dict(zip(("semantic", "collaborative"), views, strict=True)))  # fmt: skip


def compare(benchmark, fits, used_codes, *, n_items):
    """Compare the CPU time of an epoch: what more epochs cost than few of them, so that the start does not count."""
    rounds = 1 if benchmark.disabled else 3
    calls = {(name, n): lambda fit=fit, n=n: fit(n) for name, fit in fits.items() for n in (FEW, MANY)}
    with use_threads(1):
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        measured = benchmark.pedantic(
            side_by_side, (calls,), {"rounds": rounds, "warmup": 0, "clock": time.process_time}, rounds=1, iterations=1
        )
        results = {name: {"used_codes": used_codes[name](fit(COUNTED))} for name, fit in fits.items()}
        torch.set_num_threads(n_threads)
    seconds = {
        name: [(many - few) / (MANY - FEW) for few, many in zip(measured[name, FEW], measured[name, MANY], strict=True)]
        for name in fits
    }
    benchmark.extra_info |= {"clock": "CPU", "n_items": n_items, "seconds": seconds, "results": results}


def least_used(codes, codebook_size):
    return min(len(np.unique(column)) for column in codes.T) / codebook_size


@pytest.mark.benchmark(group="RQVAE: training epoch")
def test_bench_rqvae_epoch(benchmark, views, codebook_size):
    X = views[0]
    fits = {
        "semid": lambda n: fit_rqvae(X, n, codebook_size, CodeLearning()),
        "semid, bfloat16": lambda n: fit_rqvae(X, n, codebook_size, CodeLearning(), "bfloat16"),
        "semid, published learning": lambda n: fit_rqvae(X, n, codebook_size, PUBLISHED),
        "plain PyTorch, published": lambda n: fit_plain([X], n, codebook_size, n_shared=0, n_specific=3),
    }
    used = dict.fromkeys(fits, lambda quantizer: least_used(quantizer.encode(X), codebook_size))
    used["plain PyTorch, published"] = lambda model: model.used_codes([torch.from_numpy(X)])
    compare(benchmark, fits, used, n_items=len(X))


@pytest.mark.benchmark(group="SharedSpecificRQVAE: training epoch")
def test_bench_shared_specific_epoch(benchmark, views, codebook_size):
    fits = {
        "semid": lambda n: fit_shared_specific(views, n, codebook_size, "default"),
        "semid, bfloat16": lambda n: fit_shared_specific(views, n, codebook_size, "default", "bfloat16"),
        "semid, recipe gensar": lambda n: fit_shared_specific(views, n, codebook_size, "gensar"),
        "plain PyTorch, published": lambda n: fit_plain(views, n, codebook_size, n_shared=2, n_specific=2),
    }

    def used(quantizer):
        codes = quantizer.encode(dict(zip(("semantic", "collaborative"), views, strict=True)))
        return min(least_used(table, codebook_size) for table in codes.values())

    used_codes = dict.fromkeys(fits, used)
    used_codes["plain PyTorch, published"] = lambda model: model.used_codes(list(map(torch.from_numpy, views)))
    compare(benchmark, fits, used_codes, n_items=len(views[0]))
