"""What a search asks of a model: the prompt once per request, then one token for each beam."""

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput

from semid._arrays import IntArray
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.head import Head, products_for
from semid.generation.interface import cache_name, cache_of, device_of, forward_arguments

__all__ = [
    "Body",
    "Forward",
    "accepted_arguments",
    "features_of",
    "reorder",
]


class Forward(ABC):
    """A model in the middle of answering `batch` prompts; call `prompt` once, then `step` once per level.

    Attributes
    ----------
    batch : int
    head : Head
        Reads the features.
    several : bool
        Whether the model may read several tokens of an answer in one pass.
    """

    batch: int
    head: Head
    several: bool = False

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

        Every node leads to one of the last level, but those that fill up a level: their features mean nothing.
        """
        if self.several:
            return self._read_levels(rows, tokens)
        return [self.step(*level) for level in zip(rows, tokens, strict=True)]

    def _read_levels(self, rows: list[IntArray], tokens: list[IntArray]) -> list[torch.Tensor]:
        """Read all levels at once, where a way can."""
        return [self.step(*level) for level in zip(rows, tokens, strict=True)]


def reorder(cache: Any, rows: IntArray, width: int) -> None:
    """Give each beam the cache row of the beam it continues; also where their number changes from `width`."""
    origin = np.arange(len(rows))[:, None] * width + rows
    cache.reorder_cache(torch.from_numpy(origin.reshape(-1)))


@final
class Body:
    """What is run at each step of a search; its output are the features that a `Head` reads.

    Parameters
    ----------
    model : transformers model
    split : bool
        Run the decoder alone, so that the features are hidden states; otherwise the whole model, and the features are
        its logits.
    """

    def __init__(self, model: Any, *, split: bool) -> None:
        # What torch.compile wraps around a whole model would compile the few passes of `probe` for minutes, and a
        # search needs the decoder alone. One compiled in place, ``model.get_decoder().compile()``, runs compiled.
        self.model = model = getattr(model, "_orig_mod", model)
        self.split = split
        self.inner = model.get_decoder() if split else model
        self.accepted = accepted_arguments(self.inner)
        self.cache_name = cache_name(self.accepted, self.inner)
        # Found by walking over the weights, so once.
        self.dtype, self.device = model.dtype, device_of(model)
        self.products = products_for(self.dtype, self.device)

    def read(
        self,
        input_ids: torch.Tensor,
        *,
        attention_mask: Any,
        position_ids: torch.Tensor,
        cache: Any,
        last: bool = True,
    ) -> tuple[torch.Tensor, Any]:
        """Run a decoder-only model.

        Parameters
        ----------
        input_ids, position_ids : torch.Tensor of shape (rows, length)
        attention_mask : torch.Tensor of shape (rows, seen + length) or (rows, 1, length, seen + length), or a dict
        cache : transformers.Cache, optional
        last : bool
            Return the features of the last position alone.

        Returns
        -------
        features : torch.Tensor of shape (rows, 1 or length, dim)
        cache : transformers.Cache
        """
        # A model without positions has them in its mask, and one that writes more logits than asked is only slower;
        # without its cache it would forget.
        optional = {"position_ids": position_ids, "logits_to_keep": 1 if last else 0}
        with self.products:
            output = self.inner(
                input_ids=input_ids,
                attention_mask=attention_mask,
                use_cache=True,
                return_dict=True,
                **{self.cache_name: cache},
                **{name: value for name, value in optional.items() if name in self.accepted},
            )
        features = self._features(output)
        return features[:, -1:] if last else features, cache_of(self.model, output)

    def answer(
        self,
        decoder_input_ids: torch.Tensor,
        *,
        encoded: torch.Tensor | None,
        attention_mask: torch.Tensor,
        cache: Any,
    ) -> tuple[torch.Tensor, Any]:
        """Run the decoder of an encoder-decoder.

        Parameters
        ----------
        decoder_input_ids : torch.Tensor of shape (rows, length)
        encoded : torch.Tensor of shape (rows, prompt length, dim)
        attention_mask : torch.Tensor of shape (rows, prompt length)
        cache : transformers.Cache, optional

        Returns
        -------
        features : torch.Tensor of shape (rows, length, dim)
        cache : transformers.Cache
        """
        options: dict[str, Any] = {self.cache_name: cache, "use_cache": True, "return_dict": True}
        if self.split:
            options |= {"input_ids": decoder_input_ids, "encoder_hidden_states": encoded}
            options["encoder_attention_mask"] = attention_mask
        else:
            options |= {"decoder_input_ids": decoder_input_ids, "attention_mask": attention_mask}
            options["encoder_outputs"] = BaseModelOutput(last_hidden_state=encoded)
        with self.products:
            output = self.inner(**options)
        return self._features(output), cache_of(self.model, output)

    def encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Run the encoder of an encoder-decoder; return what it wrote, shape (rows, length, dim)."""
        encoder = self.model.get_encoder()
        with self.products:
            encoded: torch.Tensor = encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)[0]
        return encoded

    def _features(self, output: Any) -> torch.Tensor:
        return features_of(self.model, output, "last_hidden_state" if self.split else "logits")


def features_of(model: Any, output: Any, name: str = "logits") -> torch.Tensor:
    """Return a tensor of an output, or raise where the model does not write it."""
    features: torch.Tensor | None = getattr(output, name, None)
    if features is None:
        raise InvalidTypeError(
            f"model has a wrong type: expected one that returns logits, got {type(model).__name__}. "
            "Pass the model with its language modelling head, whose generate you would call."
        )
    return features


def accepted_arguments(model: Any) -> frozenset[str]:
    """Return the names that the model's forward pass takes.

    Raises
    ------
    InvalidValueError
        If a wrapper hides them: a search that guessed would leave the cache or the positions out.
    """
    names = forward_arguments(model)
    if "input_ids" not in names:
        raise InvalidValueError(
            f"{type(model).__name__} hides what its forward pass takes: expected an argument input_ids, got "
            f"{sorted(names)}. Pass the model that it wraps."
        )
    return names
