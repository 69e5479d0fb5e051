"""The fit of a network, whole or batch by batch: for one view and for several."""

import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from semid._arrays import Matrix, Rows
from semid.io.matrices import float_block
from semid.quantizers.checks import sample_rows
from semid.quantizers.learnt import Scaling, standardize
from semid.quantizers.networks.building import (
    blocks_of,
    build_network,
    build_views_network,
    export,
    export_views,
    fit_scale,
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
from semid.quantizers.networks.residual import ResidualNetwork
from semid.quantizers.networks.shared_specific import SharedSpecificNetwork
from semid.quantizers.networks.training import Record, Trainer, plain_torch, train

__all__ = [
    "Stream",
    "collision_rate",
    "encode_all",
    "fit_network",
    "fit_views_network",
    "relative_distortion",
    "relative_error",
    "stream_network",
    "stream_views_network",
]


# Rows that select the checkpoint: enough to tell epochs apart.
MOST_JUDGES = 16_384
# A code that no row of the pool chooses is dead, and moves to one of them: rows at least, and at least per code.
POOL_ROWS, POOL_ROWS_PER_CODE = 8192, 16
# Rows whose content a checkpoint must agree with.
CHECKED_ROWS = 8192
# Rows of several views that the passes of a judgement take together.
JUDGED_ROWS = 4096

Numbers = npt.NDArray[np.number[Any]]
Load = Callable[[Rows], Any]


class Network(Protocol):
    """What the loop asks of a network; a batch is one tensor, or a list with one per view."""

    started: Tensor

    def losses(self, batch: Any, /) -> dict[str, Tensor]:
        """Return "loss" and its parts."""

    def revive(self, batch: Any, generator: torch.Generator, /) -> int:
        """Move dead codes; return how many."""


def load_rows(items: Any, rows: Rows, scaling: Any, device: torch.device) -> Any:
    """Return standardised rows on a device: one tensor, or a list with one per view.

    Parameters
    ----------
    items : ndarray of shape (n_items, dim), any real dtype, or mapping of str to such
        Only these rows are read, so it may be memory-mapped.
    rows : ndarray of shape (n_rows,), dtype int64
    scaling : Scaling, or mapping of str to Scaling
        One for each view.
    device : torch.device
    """
    if isinstance(scaling, Scaling):
        return torch.from_numpy(standardize(items, rows, scaling)).to(device)
    return [
        torch.from_numpy(standardize(matrix, rows, scaling[view], view=view)).to(device)
        for view, matrix in items.items()
    ]


def run_epochs(
    network: Any,
    load: Load,
    trained: Rows,
    *,
    options: Training,
    start: Callable[[Any], None],
    revive_dead: bool,
    codebook_size: int,
    observe: Callable[[], Record],
    judge: Callable[[int], Record],
    criterion: str,
    seed: int,
    checkpoint: str | os.PathLike[str] | None,
    fingerprint: Mapping[str, Any],
    progress: bool,
) -> list[Record]:
    """Train a network and leave it with its best state; return the history.

    Parameters
    ----------
    network : Network
    load : callable
        Takes row numbers and returns a batch.
    trained : ndarray of shape (n_trained,), dtype int64
        Rows to train on.
    options : Training
    start : callable
        Sets the codebooks; takes the first batch after the epochs of warm-up.
    revive_dead : bool
    codebook_size : int
        Of the largest codebook.
    observe : callable
        Returns what is to be noted of an epoch before dead codes are revived.
    judge : callable
        Takes the number of an epoch; returns entries of its record, `criterion` among them if the epoch is judged.
    criterion, seed, checkpoint, fingerprint, progress
        As in `train`.
    """
    at_epoch = 0

    def before_epoch(epoch: int) -> None:
        nonlocal at_epoch
        at_epoch = epoch

    def step(rows: Rows) -> dict[str, Tensor]:
        batch = load(trained[rows])
        if at_epoch > options.warmup_epochs and not network.started:
            start(batch)
            network.train()
        losses: dict[str, Tensor] = network.losses(batch)
        return losses

    def after_epoch(epoch: int, generator: torch.Generator) -> Record:
        if not network.started:
            return {}
        record = observe()
        if revive_dead:
            rows = pool_rows(trained, codebook_size, rng=np.random.default_rng((seed, epoch)))
            record["n_revived"] = network.revive(load(rows), generator)
        # Afterwards, so that the codes of the state that is kept are in use.
        return record | judge(epoch)

    return train(
        network, step, len(trained), options=options, epochs=options.warmup_epochs + options.epochs,
        criterion=criterion, seed=seed, before_epoch=before_epoch, after_epoch=after_epoch, checkpoint=checkpoint,
        fingerprint=fingerprint, progress=progress,
    )  # fmt: skip


@final
class Stream:
    """A network that learns from one batch after another, with a constant learning rate.

    Parameters
    ----------
    network : ResidualNetwork or SharedSpecificNetwork
    options : Training
    scaling : Scaling, or mapping of str to Scaling
    rng : numpy.random.Generator
        Shuffles the rows of each pass.
    """

    def __init__(self, network: Any, options: Training, scaling: Any, rng: np.random.Generator) -> None:
        self.network, self.scaling = network, scaling
        self._options, self._rng = options, rng
        self._trainer = Trainer(network, options)

    @plain_torch()
    def learn(self, items: Any) -> Record:
        """Train one pass over items, which are as in `load_rows`; return the means of the losses."""
        n_items = len(items if isinstance(self.scaling, Scaling) else next(iter(items.values())))
        self.network.train()
        record: Record = {}
        for rows in np.array_split(self._rng.permutation(n_items), -(-n_items // self._options.batch_size)):
            losses = partial(self.network.losses, self.load(items, rows))
            for name, value in self._trainer.take_step(losses, self._options.learning_rate).items():
                record[name] = record.get(name, 0.0) + float(value.detach()) * len(rows) / n_items
        return record

    def load(self, items: Any, rows: Rows) -> Any:
        """Return a batch, as `load_rows` does."""
        return load_rows(items, rows, self.scaling, self.network.started.device)


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


def content(matrix: Numbers) -> int:
    """Return a checksum of the first rows, by which a checkpoint knows its items."""
    return zlib.crc32(float_block(matrix, slice(0, CHECKED_ROWS)).tobytes())


# One view.


@plain_torch()
def fit_network(
    matrix: Numbers,
    architecture: Architecture,
    options: Training,
    *,
    seed: int,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> tuple[Fitted, list[Record]]:
    """Train a network; return what it learnt and the history.

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

    def load(rows: Rows) -> Tensor:
        tensor: Tensor = load_rows(matrix, rows, scaling, network.started.device)
        return tensor

    def start(batch: Tensor) -> None:
        blocks = map(load, blocks_of(sample))
        start_codebooks(network, blocks, batch_size=options.batch_size, seed=seed, progress=progress)

    def observe() -> Record:
        return {"used_codes": min(float((counts > 0).float().mean()) for counts in network.take_counts())}

    history = run_epochs(
        network,
        load,
        trained,
        options=options,
        start=start,
        revive_dead=architecture.learning.revive_dead,
        codebook_size=max(architecture.codebook_sizes),
        observe=observe,
        judge=lambda epoch: {"validation_distortion": relative_distortion(network, load, judges)},
        criterion="validation_distortion",
        seed=seed,
        checkpoint=checkpoint,
        fingerprint={
            **architecture._asdict(),
            "learning": asdict(architecture.learning),
            "training": asdict(options) | {"device": None},
            "items": [*matrix.shape, content(matrix)],
        },
        progress=progress,
    )
    return export(network, scaling), history


@plain_torch()
def stream_network(
    first: Matrix, architecture: Architecture, options: Training, *, seed: int, fitted: Fitted | None = None
) -> Stream:
    """Return a network that learns batch by batch.

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
    if fitted is None:
        sample_rows(len(first), architecture.codebook_sizes, sample_size=None, rng=np.random.default_rng(seed))
    network = build_network(first.shape[1], architecture, options, seed=seed)
    scaling = fit_scale(first) if fitted is None else fitted.scaling
    stream = Stream(network, options, scaling, np.random.default_rng(seed))
    if fitted is not None:
        restore(network, fitted, batch_size=options.batch_size)
        return stream
    for _ in range(options.warmup_epochs):
        stream.learn(first)
    blocks = (stream.load(first, rows) for rows in blocks_of(np.arange(len(first))))
    start_codebooks(network, blocks, batch_size=options.batch_size, seed=seed)
    return stream


@torch.no_grad()
def relative_distortion(network: ResidualNetwork, load: Load, rows: Rows) -> float:
    """Return the mean squared error of decoded codes: a share of the variance, embeddings being standardised."""
    network.eval()
    total, n_values = 0.0, 0
    for block in map(load, blocks_of(rows)):
        total += float(network.losses(block)["reconstruction"]) * block.numel()
        n_values += block.numel()
    return total / n_values


# Several views.


@plain_torch()
def fit_views_network(
    matrices: Mapping[str, Numbers],
    architecture: ViewsArchitecture,
    *,
    weights: Mapping[str, float],
    recipe: Recipe,
    seed: int,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> tuple[FittedViews, list[Record]]:
    """Train a network; return what it learnt and the history.

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
        As in `train`.

    Raises
    ------
    InvalidValueError, FormatError
        As in `fit_network`.
    """
    rng = np.random.default_rng(seed)
    n_items, sizes = len(next(iter(matrices.values()))), architecture.shared_sizes + architecture.specific_sizes
    sample = sample_rows(n_items, sizes, sample_size=None, rng=rng)
    scaling = scale_views(matrices, sample, weights=weights, recipe=recipe)
    options = recipe.training
    trained, judges = split_rows(n_items, options.validation_share, max(sizes), rng)
    dims = {view: matrix.shape[1] for view, matrix in matrices.items()}
    network = build_views_network(dims, architecture, recipe=recipe, seed=seed)

    def load(rows: Rows) -> list[Tensor]:
        tensors: list[Tensor] = load_rows(matrices, rows, scaling, network.started.device)
        return tensors

    def start(batch: list[Tensor]) -> None:
        if recipe.start == "first-batch":
            start_from_batch(network, batch, seed=seed)
            return
        latents = encode_all(network, load, spread_rows(trained, len(sample)))
        start_from_rows(network, latents, rng=np.random.default_rng((seed, options.warmup_epochs + 1)))

    def judge(epoch: int) -> Record:
        number = epoch - options.warmup_epochs
        if number % recipe.evaluate_every and number != options.epochs:
            return {}
        if recipe.criterion == "error":
            return {"error": relative_error(network, load, judges)}
        return {"collisions": collision_rate(network, load, trained)}

    history = run_epochs(
        network,
        load,
        trained,
        options=options,
        start=start,
        revive_dead=recipe.revive_dead,
        codebook_size=max(sizes),
        observe=dict,
        judge=judge,
        criterion=recipe.criterion,
        seed=seed,
        checkpoint=checkpoint,
        fingerprint={
            "recipe": asdict(recipe) | {"training": asdict(options) | {"device": None}},
            "shapes": [list(matrix.shape) for matrix in matrices.values()],
            "architecture": [list(architecture.latent_dims.values()), *map(list, architecture[1:])],
            "weights": list(weights.values()),
            "items": list(map(content, matrices.values())),
        },
        progress=progress,
    )
    return export_views(network, scaling), history


@plain_torch()
def stream_views_network(
    first: Mapping[str, Numbers],
    architecture: ViewsArchitecture,
    *,
    weights: Mapping[str, float],
    recipe: Recipe,
    seed: int,
    fitted: FittedViews | None = None,
) -> Stream:
    """Return a network that learns batch by batch.

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
    rng, n_items = np.random.default_rng(seed), len(next(iter(first.values())))
    if fitted is None:
        sizes = architecture.shared_sizes + architecture.specific_sizes
        rows = sample_rows(n_items, sizes, sample_size=None, rng=rng)
        scaling = scale_views(first, rows, weights=weights, recipe=recipe)
    else:
        scaling = fitted.scaling
    dims = {view: matrix.shape[1] for view, matrix in first.items()}
    network = build_views_network(dims, architecture, recipe=recipe, seed=seed)
    stream = Stream(network, recipe.training, scaling, rng)
    if fitted is not None:
        restore_views(network, fitted)
        return stream
    for _ in range(recipe.training.warmup_epochs):
        stream.learn(first)
    if recipe.start == "all-rows":
        start_from_rows(network, encode_all(network, partial(stream.load, first), rows), rng=rng)
    else:
        batch = rng.permutation(n_items)[: recipe.training.batch_size]
        start_from_batch(network, stream.load(first, batch), seed=seed)
    return stream


def scale_views(
    matrices: Mapping[str, Numbers], rows: Rows, *, weights: Mapping[str, float], recipe: Recipe
) -> dict[str, Scaling]:
    """Return the scaling of each view, found from some rows."""
    return {
        view: scale_view(matrix, rows, view=view, weight=weights[view], policy=recipe.scaling)
        for view, matrix in matrices.items()
    }


def spread_rows(rows: Rows, most: int) -> Rows:
    """Return at most so many rows, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows)), dtype=np.int64)]


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
