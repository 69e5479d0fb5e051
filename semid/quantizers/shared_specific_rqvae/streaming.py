"""The partial_fit of SharedSpecificRQVAE: a network that learns from one batch after another."""

import functools
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

from semid._arrays import Int64Array
from semid.quantizers.networks.training import Record, Trainer
from semid.quantizers.sampling import sample_rows
from semid.quantizers.shared_specific_rqvae.building import build_network, export, restore, scale_view
from semid.quantizers.shared_specific_rqvae.evaluation import encode_all
from semid.quantizers.shared_specific_rqvae.parts import Architecture, Fitted, standardize_rows
from semid.quantizers.shared_specific_rqvae.recipes import Recipe
from semid.quantizers.shared_specific_rqvae.starting import start_from_batch, start_from_rows

__all__ = ["ViewStream"]

Matrices = Mapping[str, npt.NDArray[np.number[Any]]]


@final
class ViewStream:
    """A network that learns from one batch after another, with a constant learning rate.

    Parameters
    ----------
    first : mapping of str to ndarray of shape (n_items, dim of the view), any real dtype
        Without `fitted`, it sets the scales, is seen ``warmup_epochs`` times without codebooks, and starts them.
    architecture : Architecture
    weights : mapping of str to float
        Factor of each view's squared errors.
    recipe : Recipe
    seed : int
    fitted : Fitted, optional
        Where to go on from.

    Raises
    ------
    InvalidValueError
        If the codebooks are to start from fewer rows than codes.
    """

    def __init__(
        self,
        first: Matrices,
        architecture: Architecture,
        *,
        weights: Mapping[str, float],
        recipe: Recipe,
        seed: int,
        fitted: Fitted | None = None,
    ) -> None:
        self._recipe, self._seed = recipe, seed
        self._rng = np.random.default_rng(seed)
        n_items = len(next(iter(first.values())))
        if fitted is None:
            sizes = architecture.shared_sizes + architecture.specific_sizes
            rows = sample_rows(n_items, sizes, sample_size=None, rng=self._rng)
        dims = {view: matrix.shape[1] for view, matrix in first.items()}
        self._network = build_network(dims, architecture, recipe=recipe, seed=seed)
        self._trainer = Trainer(self._network, recipe.training)
        if fitted is not None:
            self._scaling = fitted.scaling
            restore(self._network, fitted)
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

    def learn(self, batch: Matrices) -> tuple[Fitted, Record]:
        """Train one pass over a batch; returns what is known then, and the means of the losses."""
        record = self._pass(batch)
        return export(self._network, self._scaling), record

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
            torch.from_numpy(standardize_rows(matrix, rows, self._scaling[view], view=view)).to(
                self._network.started.device
            )
            for view, matrix in batch.items()
        ]
