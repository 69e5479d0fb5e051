"""The two kinds of language model behind one interface: how to build it, draw its training data, and get its loss."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .dataset import History
from .language import Language
from .presets import Recipe

__all__ = ["IGNORED", "Backbone", "Batch"]

Batch = Mapping[str, torch.Tensor]

# The label of a token that is no target, as in torch's cross-entropy.
IGNORED = -100


class Backbone(ABC):
    """A kind of language model.

    An epoch is drawn as a list of samples (whatever the backbone likes), grouped to batches of about equal numbers of
    tokens, and each batch is turned into the model's inputs.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @abstractmethod
    def build(self, tokenizer: Any) -> Any:
        """Return a Hugging Face model from a config, with random weights and one embedding row per token."""

    @abstractmethod
    def draw(self, histories: Sequence[History], language: Language, rng: np.random.Generator) -> list[Any]:
        """Return one epoch's samples: every training event once, its form drawn anew."""

    @abstractmethod
    def n_tokens(self, sample: Any) -> int:
        """Return the number of input tokens of a sample."""

    @abstractmethod
    def collate(self, samples: Sequence[Any], *, pad: int) -> Batch:
        """Return the model's inputs for a batch of samples, padded with the token `pad`."""

    @abstractmethod
    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """Return the mean cross-entropy of the ID tokens, in nats per token."""

    def epoch(self, histories: Sequence[History], language: Language, rng: np.random.Generator) -> list[list[Any]]:
        """Draw an epoch and group it to batches of at most `tokens_per_step` tokens, in random order.

        Samples of like length share a batch, so that little of it is padding.
        """
        samples = self.draw(histories, language, rng)
        lengths = np.array([self.n_tokens(sample) for sample in samples])
        batches: list[list[Any]] = []
        width = 0
        for index in np.argsort(lengths + rng.uniform(0, 0.1, len(lengths)) * lengths, kind="stable"):
            width = max(width, int(lengths[index]))
            if not batches or width * (len(batches[-1]) + 1) > self.recipe.tokens_per_step:
                batches.append([])
                width = int(lengths[index])
            batches[-1].append(samples[index])
        return [batches[index] for index in rng.permutation(len(batches))]
