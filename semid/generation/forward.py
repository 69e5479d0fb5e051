"""What a beam search asks of a model: the prompt once per request, then one token for each beam."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from semid._arrays import IntArray

__all__ = ["Forward", "reorder"]


class Forward(ABC):
    """A model in the middle of answering `batch` prompts; call `prompt` once, then `step` once per level."""

    batch: int

    @abstractmethod
    def prompt(self) -> torch.Tensor:
        """Read the prompts; return the features of the next token, shape (batch, dim)."""

    @abstractmethod
    def step(self, rows: IntArray, tokens: IntArray) -> torch.Tensor:
        """Append a token to each beam.

        Parameters
        ----------
        rows : ndarray of shape (batch, width), dtype int64
            Which beam of the step before each beam continues; 0 in the first step.
        tokens : ndarray of shape (batch, width), dtype int64
            The token it is continued by.

        Returns
        -------
        features : torch.Tensor of shape (batch * width, dim)
            What the model's `Head` reads.
        """

    def levels(self, rows: list[IntArray], tokens: list[IntArray]) -> list[torch.Tensor]:
        """Read a tree whose level d is what ``step(rows[d], tokens[d])`` would append; return the features of each.

        Every node leads to one of the last level, but those that fill up a level: their features mean nothing. Here
        level by level; a subclass that can reads all levels at once.
        """
        return [self.step(*level) for level in zip(rows, tokens, strict=True)]


def reorder(cache: Any, rows: IntArray, width: int) -> None:
    """Give each beam the cache row of the beam it continues; also where their number changes from `width`."""
    origin = np.arange(len(rows))[:, None] * width + rows
    cache.reorder_cache(torch.from_numpy(origin.reshape(-1)))
