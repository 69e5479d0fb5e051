"""The fit of RQVAE: a warm-up as autoencoder, codebooks by k-means of the latents, then both together."""

import os
import zlib
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semid._arrays import Rows
from semid.io.matrices import float_block
from semid.quantizers.networks.building import (
    blocks_of,
    build_network,
    export,
    fit_scale,
    relative_distortion,
    start_codebooks,
)
from semid.quantizers.networks.options import Training
from semid.quantizers.networks.parts import Architecture, Fitted, standardize
from semid.quantizers.networks.training import Record, train
from semid.quantizers.training import sample_rows

__all__ = ["fit_network", "pool_rows"]

# Rows that select the checkpoint: enough to tell epochs apart.
MOST_JUDGES = 16_384
# A code that no row of the pool chooses is dead, and moves to one of them: rows at least, and at least per code.
POOL_ROWS, POOL_ROWS_PER_CODE = 8192, 16


def fit_network(
    matrix: npt.NDArray[np.number[Any]],
    architecture: Architecture,
    options: Training,
    *,
    seed: int,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> tuple[Fitted, list[Record]]:
    """Train a network; returns what it learnt and the history.

    Parameters
    ----------
    matrix : ndarray of shape (n_items, dim), any real dtype
        Read batch by batch, so it may be memory-mapped.
    architecture : Architecture
    options : Training
    seed : int
    checkpoint : path-like, optional
    progress : bool
        As in `train`.

    Raises
    ------
    InvalidValueError
        If there are fewer items than codes in a codebook, a value is not finite, or training diverges.
    FormatError
        If the checkpoint belongs to another fit.
    """
    rng = np.random.default_rng(seed)
    trained, judges = split_rows(len(matrix), options.validation_share, max(architecture.codebook_sizes), rng)
    sample = trained[sample_rows(len(trained), architecture.codebook_sizes, sample_size=None, rng=rng)]
    scaling = fit_scale(float_block(matrix, sample))
    network = build_network(matrix.shape[1], architecture, options, seed=seed)
    device = network.started.device

    def load(rows: Rows) -> Tensor:
        return torch.from_numpy(standardize(matrix, rows, scaling)).to(device)

    def before_epoch(epoch: int) -> None:
        if epoch > options.warmup_epochs and not network.started:
            start_codebooks(
                network, map(load, blocks_of(sample)), batch_size=options.batch_size, seed=seed, progress=progress
            )
        network.forget_counts()

    def after_epoch(epoch: int, generator: torch.Generator) -> Record:
        if not network.started:
            return {}
        record: Record = {"used_codes": min(float((counts > 0).float().mean()) for counts in network.counts)}
        if architecture.learning.revive_dead:
            rows = pool_rows(trained, max(architecture.codebook_sizes), rng=np.random.default_rng((seed, epoch)))
            record["n_revived"] = network.revive(load(rows), generator)
        # Afterwards, so that the codes of the state that is kept are in use.
        record["validation_distortion"] = relative_distortion(network, map(load, blocks_of(judges)))
        return record

    history = train(
        network,
        lambda rows: network(load(trained[rows])),
        len(trained),
        options=options,
        epochs=options.warmup_epochs + options.epochs,
        criterion="validation_distortion",
        seed=seed,
        before_epoch=before_epoch,
        after_epoch=after_epoch,
        checkpoint=checkpoint,
        fingerprint={
            **architecture._asdict(),
            "learning": asdict(architecture.learning),
            "training": asdict(options) | {"device": None},
            "items": [*matrix.shape, zlib.crc32(float_block(matrix, slice(0, POOL_ROWS)).tobytes())],
        },
        progress=progress,
    )
    return export(network, scaling), history


def split_rows(n_items: int, share: float, least: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return the rows to train on and those that judge, both sorted; the same rows where none can be spared.

    Parameters
    ----------
    n_items : int
    share : float
        Of the rows that judge.
    least : int
        Rows that must be left to train on.
    rng : numpy.random.Generator
    """
    n_judges = max(0, min(int(share * n_items), n_items - least, MOST_JUDGES))
    shuffled = rng.permutation(n_items)
    trained = np.sort(shuffled[n_judges:])
    return trained, np.sort(shuffled[:n_judges]) if n_judges else trained[:MOST_JUDGES]


def pool_rows(trained: Rows, codebook_size: int, *, rng: np.random.Generator) -> Rows:
    """Return rows, sorted, that tell which codes of a codebook are dead."""
    most = max(POOL_ROWS, POOL_ROWS_PER_CODE * codebook_size)
    return np.sort(rng.choice(trained, min(most, len(trained)), replace=False))
