"""The fit of a network, whole or batch by batch: for one view and for several."""

import functools
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semid._arrays import Int64Array, Matrix, Rows
from semid.io.matrices import float_block
from semid.quantizers.checks import sample_rows
from semid.quantizers.learnt import standardize
from semid.quantizers.networks.building import (
    blocks_of,
    build_network,
    build_views_network,
    export,
    export_views,
    fit_scale,
    relative_distortion,
    restore,
    restore_views,
    scale_view,
    start_codebooks,
    start_from_batch,
    start_from_rows,
)
from semid.quantizers.networks.layers import (
    Architecture,
    Fitted,
    FittedViews,
    ViewsArchitecture,
)
from semid.quantizers.networks.options import Recipe, Training
from semid.quantizers.networks.shared_specific import SharedSpecificNetwork
from semid.quantizers.networks.training import Record, Trainer, train

__all__ = [
    "NetworkStream",
    "ViewStream",
    "collision_rate",
    "encode_all",
    "fit_network",
    "fit_views_network",
    "relative_error",
]


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


Load = Callable[[Rows], list[torch.Tensor]]
# Rows that the passes of a judgement take together.
JUDGED_ROWS = 4096


@torch.no_grad()
def encode_all(network: SharedSpecificNetwork, load: Load, rows: Rows) -> list[torch.Tensor]:
    """Return the latents of rows, one tensor of shape (n_rows, latent dim) per view."""
    network.eval()
    blocks = [network.encode(load(block)) for block in blocks_of(rows, JUDGED_ROWS)]
    return [torch.cat(parts) for parts in zip(*blocks, strict=True)]


@torch.no_grad()
def relative_error(network: SharedSpecificNetwork, load: Load, rows: Rows) -> float:
    """Return the squared error of the decoded codes over the variance of the same rows, mean over views."""
    network.eval()
    n_views = len(network.latent_dims)
    errors, squares, sums = np.zeros(n_views), np.zeros(n_views), [np.zeros(1)] * n_views
    for block in blocks_of(rows, JUDGED_ROWS):
        views = load(block)
        decoded = network.decode(network.quantized(network.encode(views)))
        for number, (x, y) in enumerate(zip(views, decoded, strict=True)):
            errors[number] += float((x - y).square().sum(dtype=torch.float64))
            squares[number] += float(x.square().sum(dtype=torch.float64))
            sums[number] = sums[number] + x.sum(dim=0, dtype=torch.float64).cpu().numpy()
    spreads = squares - np.array([float(each @ each) for each in sums]) / len(rows)
    # A view without variance costs what it costs: there is nothing to compare it with.
    return float(np.mean(errors / np.where(spreads > 1e-9 * squares, spreads, len(rows))))


@torch.no_grad()
def collision_rate(network: SharedSpecificNetwork, load: Load, rows: Rows) -> float:
    """Return ``1 - n_unique / n_rows`` of the codes, mean over views."""
    network.eval()
    blocks = []
    for block in blocks_of(rows, JUDGED_ROWS):
        shared, specific = network.quantize(network.encode(load(block)))
        blocks.append([torch.stack(shared.codes + own.codes, dim=1) for own in specific])
    unique = [len(torch.unique(torch.cat(codes), dim=0)) for codes in zip(*blocks, strict=True)]
    return 1.0 - sum(unique) / (len(unique) * len(rows))


Matrices = Mapping[str, npt.NDArray[np.number[Any]]]
# Rows whose content a checkpoint must agree with.
CHECKED_ROWS = 8192


def fit_views_network(
    matrices: Matrices,
    architecture: ViewsArchitecture,
    *,
    weights: Mapping[str, float],
    recipe: Recipe,
    seed: int,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> tuple[FittedViews, list[Record]]:
    """Train a network; returns what it learnt and the history.

    Parameters
    ----------
    matrices : mapping of str to ndarray of shape (n_items, dim of the view), any real dtype
        Read batch by batch, so they may be memory-mapped.
    architecture : ViewsArchitecture
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
    trained, judges = split_rows(n_items, recipe.training.validation_share, max(sizes), rng)
    dims = {view: matrix.shape[1] for view, matrix in matrices.items()}
    network = build_views_network(dims, architecture, recipe=recipe, seed=seed)

    def load(rows: Rows) -> list[torch.Tensor]:
        return [torch.from_numpy(standardize(matrix, rows, scaling[view], view=view)).to(network.started.device)
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
    return export_views(network, scaling), history


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


@final
class NetworkStream:
    """A network that learns from one batch after another, with a constant learning rate.

    Parameters
    ----------
    first : ndarray of shape (n_items, dim), dtype float32
        Without `fitted`, it sets the scale, is seen ``warmup_epochs`` times without codebooks, and starts them.
    architecture : Architecture
    options : Training
    seed : int
    fitted : Fitted, optional
        Where to go on from.

    Raises
    ------
    InvalidValueError
        If the codebooks are to start from fewer rows than codes.
    """

    def __init__(
        self, first: Matrix, architecture: Architecture, options: Training, *, seed: int, fitted: Fitted | None = None
    ) -> None:
        if fitted is None:
            sample_rows(len(first), architecture.codebook_sizes, sample_size=None, rng=np.random.default_rng(seed))
        self._options = options
        self._rng = np.random.default_rng(seed)
        self._network = build_network(first.shape[1], architecture, options, seed=seed)
        self._trainer = Trainer(self._network, options)
        if fitted is not None:
            self._scaling = fitted.scaling
            restore(self._network, fitted, batch_size=options.batch_size)
            return
        self._scaling = fit_scale(first)
        for _ in range(options.warmup_epochs):
            self._pass(first)
        blocks = (self._load(first, rows) for rows in blocks_of(np.arange(len(first))))
        start_codebooks(self._network, blocks, batch_size=options.batch_size, seed=seed)

    def learn(self, batch: Matrix) -> Fitted:
        """Train one pass over a batch of shape (n_items, dim), dtype float32; returns what is known then."""
        self._pass(batch)
        return export(self._network, self._scaling)

    def _pass(self, batch: Matrix) -> None:
        self._network.train()
        for rows in np.array_split(self._rng.permutation(len(batch)), -(-len(batch) // self._options.batch_size)):
            loaded = self._load(batch, rows)
            self._trainer.take_step(partial(self._network, loaded), self._options.learning_rate)

    def _load(self, batch: Matrix, rows: Int64Array) -> Tensor:
        block = torch.from_numpy(standardize(batch, rows, self._scaling))
        return block.to(self._network.started.device)


@final
class ViewStream:
    """A network that learns from one batch after another, with a constant learning rate.

    Parameters
    ----------
    first : mapping of str to ndarray of shape (n_items, dim of the view), any real dtype
        Without `fitted`, it sets the scales, is seen ``warmup_epochs`` times without codebooks, and starts them.
    architecture : ViewsArchitecture
    weights : mapping of str to float
        Factor of each view's squared errors.
    recipe : Recipe
    seed : int
    fitted : FittedViews, optional
        Where to go on from.

    Raises
    ------
    InvalidValueError
        If the codebooks are to start from fewer rows than codes.
    """

    def __init__(
        self,
        first: Matrices,
        architecture: ViewsArchitecture,
        *,
        weights: Mapping[str, float],
        recipe: Recipe,
        seed: int,
        fitted: FittedViews | None = None,
    ) -> None:
        self._recipe, self._seed = recipe, seed
        self._rng = np.random.default_rng(seed)
        n_items = len(next(iter(first.values())))
        if fitted is None:
            sizes = architecture.shared_sizes + architecture.specific_sizes
            rows = sample_rows(n_items, sizes, sample_size=None, rng=self._rng)
        dims = {view: matrix.shape[1] for view, matrix in first.items()}
        self._network = build_views_network(dims, architecture, recipe=recipe, seed=seed)
        self._trainer = Trainer(self._network, recipe.training)
        if fitted is not None:
            self._scaling = fitted.scaling
            restore_views(self._network, fitted)
            return
        self._scaling = {
            view: scale_view(matrix, rows, view=view, weight=weights[view], policy=recipe.scaling)
            for view, matrix in first.items()
        }
        for _ in range(recipe.training.warmup_epochs):
            self._pass(first)
        if recipe.start == "all-rows":
            latents = encode_all(self._network, lambda block: self._load(first, block), rows)
            start_from_rows(self._network, latents, rng=self._rng)
        else:
            batch = self._rng.permutation(n_items)[: recipe.training.batch_size]
            start_from_batch(self._network, self._load(first, batch), seed=seed)

    def learn(self, batch: Matrices) -> tuple[FittedViews, Record]:
        """Train one pass over a batch; returns what is known then, and the means of the losses."""
        record = self._pass(batch)
        return export_views(self._network, self._scaling), record

    def _pass(self, batch: Matrices) -> Record:
        options, n_items = self._recipe.training, len(next(iter(batch.values())))
        self._network.train()
        record: Record = {}
        for rows in np.array_split(self._rng.permutation(n_items), -(-n_items // options.batch_size)):
            losses = functools.partial(self._network.losses, self._load(batch, rows))
            terms = self._trainer.take_step(losses, options.learning_rate)
            for name, value in terms.items():
                record[name] = record.get(name, 0.0) + float(value.detach()) * len(rows) / n_items
        return record

    def _load(self, batch: Matrices, rows: Int64Array) -> list[torch.Tensor]:
        return [
            torch.from_numpy(standardize(matrix, rows, self._scaling[view], view=view)).to(self._network.started.device)
            for view, matrix in batch.items()
        ]
