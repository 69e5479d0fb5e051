"""The training run of a recipe: autoencoders, codebooks, then both together."""

import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from semid._arrays import Rows
from semid.io.matrices import float_block
from semid.quantizers.networks.fitting import pool_rows
from semid.quantizers.networks.training import Record, train
from semid.quantizers.shared_specific_rqvae.building import build_network, export, scale_view
from semid.quantizers.shared_specific_rqvae.evaluation import collision_rate, encode_all, relative_error
from semid.quantizers.shared_specific_rqvae.network import SharedSpecificNetwork
from semid.quantizers.shared_specific_rqvae.parts import Architecture, Fitted, standardize_rows
from semid.quantizers.shared_specific_rqvae.recipes import Recipe
from semid.quantizers.shared_specific_rqvae.starting import start_from_batch, start_from_rows
from semid.quantizers.training import sample_rows

__all__ = ["fit_network"]

Matrices = Mapping[str, npt.NDArray[np.number[Any]]]
Load = Callable[[Rows], list[torch.Tensor]]
# Rows that select the checkpoint: enough to tell epochs apart.
MOST_JUDGES = 16_384
# Rows whose content a checkpoint must agree with.
CHECKED_ROWS = 8192


def fit_network(
    matrices: Matrices,
    architecture: Architecture,
    *,
    weights: Mapping[str, float],
    recipe: Recipe,
    seed: int,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> tuple[Fitted, list[Record]]:
    """Train a network; returns what it learnt and the history.

    Parameters
    ----------
    matrices : mapping of str to ndarray of shape (n_items, dim of the view), any real dtype
        Read batch by batch, so they may be memory-mapped.
    architecture : Architecture
    weights : mapping of str to float
        Factor of each view's squared errors.
    recipe : Recipe
    seed : int
    checkpoint : path-like, optional
    progress : bool
        As in `semid.quantizers.networks.training.train`.
    """
    rng = np.random.default_rng(seed)
    n_items, sizes = len(next(iter(matrices.values()))), architecture.shared_sizes + architecture.specific_sizes
    sample = sample_rows(n_items, sizes, sample_size=None, rng=rng)
    scaling = {view: scale_view(matrix, sample, view=view, weight=weights[view], policy=recipe.scaling)
               for view, matrix in matrices.items()}  # fmt: skip
    n_judges = min(int(recipe.training.validation_share * n_items), n_items - max(sizes), MOST_JUDGES)
    shuffled = rng.permutation(n_items)
    trained = np.sort(shuffled[n_judges:])
    judges = np.sort(shuffled[:n_judges]) if n_judges else trained[:MOST_JUDGES]
    dims = {view: matrix.shape[1] for view, matrix in matrices.items()}
    network = build_network(dims, architecture, recipe=recipe, seed=seed)

    def load(rows: Rows) -> list[torch.Tensor]:
        return [torch.from_numpy(standardize_rows(matrix, rows, scaling[view], view=view)).to(network.started.device)
                for view, matrix in matrices.items()]  # fmt: skip

    fingerprint = {
        "recipe": asdict(recipe) | {"training": asdict(recipe.training) | {"device": None}},
        "shapes": [list(matrix.shape) for matrix in matrices.values()],
        "architecture": [list(architecture.latent_dims.values()), *map(list, architecture[1:])],
        "weights": list(weights.values()),
        "items": [zlib.crc32(float_block(matrix, slice(0, CHECKED_ROWS)).tobytes()) for matrix in matrices.values()],
    }
    history = run_epochs(
        network, load, trained, judges, sample_size=len(sample), recipe=recipe, seed=seed,
        checkpoint=checkpoint, fingerprint=fingerprint, progress=progress,
    )  # fmt: skip
    return export(network, scaling), history


def run_epochs(
    network: SharedSpecificNetwork,
    load: Load,
    trained: Rows,
    judges: Rows,
    *,
    sample_size: int,
    recipe: Recipe,
    seed: int,
    checkpoint: str | os.PathLike[str] | None,
    fingerprint: Mapping[str, Any],
    progress: bool,
) -> list[Record]:
    """Train encoders, codebooks and decoders, and leave the network with its best checkpoint."""
    options = recipe.training
    epochs = options.warmup_epochs + options.epochs
    from_first_batch = False

    def step(rows: Rows) -> dict[str, torch.Tensor]:
        views = load(trained[rows])
        if from_first_batch and not network.started:
            start_from_batch(network, views, seed=seed)
        return network.losses(views)

    def before_epoch(epoch: int) -> None:
        nonlocal from_first_batch
        network.forget_counts()
        if epoch > options.warmup_epochs and not network.started:
            from_first_batch = recipe.start == "first-batch"
            if not from_first_batch:
                sample = spread_rows(trained, sample_size)
                start_from_rows(network, encode_all(network, load, sample), rng=np.random.default_rng((seed, epoch)))

    def after_epoch(epoch: int, generator: torch.Generator) -> Record:
        record: Record = {}
        if not network.started:
            return record
        if recipe.revive_dead:
            rows = pool_rows(trained, max(map(len, network.books)), rng=np.random.default_rng((seed, epoch)))
            record["n_revived"] = network.revive(load(rows), generator)
        # Afterwards, so that the codes of the state that is kept are in use.
        if (epoch - options.warmup_epochs) % recipe.evaluate_every == 0 or epoch == epochs:
            if recipe.criterion == "error":
                record["error"] = relative_error(network, load, judges)
            else:
                record["collisions"] = collision_rate(network, load, trained)
        return record

    return train(
        network, step, len(trained), options=options, epochs=epochs, criterion=recipe.criterion, seed=seed,
        before_epoch=before_epoch, after_epoch=after_epoch, checkpoint=checkpoint, fingerprint=fingerprint,
        progress=progress,
    )  # fmt: skip


def spread_rows(rows: Rows, most: int) -> Rows:
    """Return at most so many rows, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows)), dtype=np.int64)]
