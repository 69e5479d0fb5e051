"""The two steps that `KMeans` and `ResidualKMeans` share: learn levels from a sample, absorb a batch."""

from typing import Protocol

import numpy as np

from semid._arrays import Matrix
from semid.quantizers.balance import check_capacity
from semid.quantizers.streaming import absorb_batch
from semid.quantizers.training import Learnt, fit_levels

__all__ = ["absorb_levels", "train_levels"]


class Settings(Protocol):
    """Parameters of a quantizer that bear on its training."""

    init: str
    max_iter: int
    capacity: int | None
    progress: bool


def train_levels(settings: Settings, sample: Matrix, sizes: tuple[int, ...], rng: np.random.Generator) -> Learnt:
    """Learn one codebook per level from a sample, which is overwritten.

    Raises
    ------
    InvalidValueError
        If ``settings.capacity`` cannot hold all rows.
    """
    capacity = check_capacity(settings.capacity, len(sample), sizes)
    return fit_levels(
        sample,
        sizes,
        init=settings.init,
        max_iter=settings.max_iter,
        rng=rng,
        capacity=capacity,
        progress=settings.progress,
    )


def absorb_levels(batch: Matrix, learnt: Learnt) -> Learnt:
    """Return what is learnt after one more batch, which is overwritten."""
    codebooks, counts = absorb_batch(batch, learnt.codebooks, learnt.counts)
    return learnt._replace(codebooks=codebooks, counts=counts)
