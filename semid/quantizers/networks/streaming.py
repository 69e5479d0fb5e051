"""The partial_fit of RQVAE: a network that learns from one batch after another."""

from functools import partial
from typing import final

import numpy as np
import torch
from torch import Tensor

from semid._arrays import Int64Array, Matrix
from semid.quantizers.networks.building import (
    blocks_of,
    build_network,
    export,
    fit_scale,
    restore,
    start_codebooks,
)
from semid.quantizers.networks.options import Training
from semid.quantizers.networks.parts import Architecture, Fitted, standardize
from semid.quantizers.networks.training import Trainer
from semid.quantizers.training import sample_rows

__all__ = ["NetworkStream"]


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
