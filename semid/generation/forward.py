"""Forward passes of a beam search: the prompt once per request, then one token for each beam."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from transformers.modeling_outputs import BaseModelOutput

from semid.errors import InvalidTypeError, InvalidValueError

__all__ = ["Forward", "open_forward"]

IntArray = npt.NDArray[np.integer[Any]]


class Forward(ABC):
    """A model in the middle of answering `batch` prompts; call `prompt` once, then `step` once per level."""

    batch: int

    @abstractmethod
    def prompt(self) -> torch.Tensor:
        """Read the prompts; return the logits of the next token, shape (batch, vocabulary)."""

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
        logits : torch.Tensor of shape (batch * width, vocabulary)
        """


def open_forward(model: Any, inputs: Mapping[str, torch.Tensor], *, last_token: int) -> Forward:
    """Check a model and its inputs, and return the forward passes for its kind.

    Parameters
    ----------
    model : transformers model
    inputs : mapping of str to torch.Tensor of shape (batch, length)
    last_token : int
        The largest token id that will be asked for.
    """
    if getattr(model, "config", None) is None or not callable(getattr(model, "get_input_embeddings", None)):
        raise InvalidTypeError(
            f"model has a wrong type: expected a transformers model, got {type(model).__name__}. "
            "Pass the model whose generate you would call."
        )
    if model.training:
        raise InvalidValueError(
            "the model is in training mode: expected evaluation mode, got dropout. Call model.eval() first."
        )
    n_rows = model.get_input_embeddings().weight.shape[0]
    if last_token >= n_rows:
        raise InvalidValueError(
            f"the vocabulary does not fit the model: expected token ids below {n_rows}, got {last_token}. "
            "Call vocab.extend(tokenizer, model)."
        )
    encoder_decoder = bool(model.config.is_encoder_decoder)
    # Tokenizers add token_type_ids to every text; a model that has no use for them loses nothing.
    unused = {"token_type_ids"} - accepted_arguments(model)
    input_ids, attention_mask = _check_inputs(inputs, encoder_decoder=encoder_decoder, unused=unused)
    input_ids, attention_mask = input_ids.to(model.device), attention_mask.to(model.device)
    if encoder_decoder:
        return EncoderDecoder(model, input_ids, attention_mask, inputs.get("decoder_input_ids"))
    return DecoderOnly(model, input_ids, attention_mask)


@final
class DecoderOnly(Forward):
    """Prompt and answer are one text: beams share the cache of the prompt until the first step copies it to each."""

    def __init__(self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> None:
        self.model = model
        self.input_ids = input_ids
        self.mask = attention_mask
        self.batch = len(input_ids)
        self.width = 1
        self.cache: Any = None
        self.next_position = attention_mask.sum(dim=1, keepdim=True)
        self.accepted = accepted_arguments(model)

    def prompt(self) -> torch.Tensor:
        """Read the prompts; return the logits of the next token."""
        # Padding stands on the left, so that positions count from the first real token.
        position_ids = (self.mask.cumsum(dim=1) - 1).clamp(min=0)
        return self._run(self.input_ids, position_ids)

    def step(self, rows: IntArray, tokens: IntArray) -> torch.Tensor:
        """Append a token to each beam."""
        reorder(self.cache, rows, self.width)
        width = tokens.shape[1]
        if width != self.width:
            # All beams of a request have the same mask and position.
            request = torch.arange(self.batch, device=self.mask.device).repeat_interleave(width) * self.width
            self.mask, self.next_position = self.mask[request], self.next_position[request]
            self.width = width
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        logits = self._run(torch.from_numpy(tokens).reshape(-1, 1).to(self.mask.device), self.next_position)
        self.next_position = self.next_position + 1
        return logits

    def _run(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        optional = {"position_ids": position_ids, "past_key_values": self.cache, "logits_to_keep": 1}
        output = self.model(
            input_ids=input_ids,
            attention_mask=self.mask,
            use_cache=True,
            return_dict=True,
            **{name: value for name, value in optional.items() if name in self.accepted},
        )
        self.cache = cache_of(self.model, output)
        return output.logits[:, -1]  # type: ignore[no-any-return]


@final
class EncoderDecoder(Forward):
    """The encoder reads the prompt once; beams are rows of the decoder alone."""

    def __init__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        decoder_input_ids: torch.Tensor | None,
    ) -> None:
        self.model = model
        self.input_ids = input_ids
        self.mask = attention_mask
        self.batch = len(input_ids)
        self.width = 1
        self.cache: Any = None
        self.encoded: Any = None
        if decoder_input_ids is None:
            decoder_input_ids = torch.full((self.batch, 1), _start_token(model))
        self.decoder_input_ids = decoder_input_ids.to(input_ids.device)

    def prompt(self) -> torch.Tensor:
        """Encode the prompts; return the logits of the first token of the answer."""
        encoder = self.model.get_encoder()
        self.encoded = encoder(input_ids=self.input_ids, attention_mask=self.mask, return_dict=True)[0]
        return self._run(self.decoder_input_ids)

    def step(self, rows: IntArray, tokens: IntArray) -> torch.Tensor:
        """Append a token to each beam."""
        reorder(self.cache, rows, self.width)
        width = tokens.shape[1]
        if width != self.width:
            # All beams of a request have the same prompt. Its keys and values are in the cache, where they were copied;
            # models read no more than the shape of the encoding now, but it has to agree.
            request = torch.arange(self.batch, device=self.mask.device).repeat_interleave(width) * self.width
            self.mask, self.encoded = self.mask[request], self.encoded[request]
            self.width = width
        return self._run(torch.from_numpy(tokens).reshape(-1, 1).to(self.mask.device))

    def _run(self, decoder_input_ids: torch.Tensor) -> torch.Tensor:
        output = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.encoded),
            attention_mask=self.mask,
            decoder_input_ids=decoder_input_ids,
            past_key_values=self.cache,
            use_cache=True,
            return_dict=True,
        )
        self.cache = cache_of(self.model, output)
        return output.logits[:, -1]  # type: ignore[no-any-return]


def cache_of(model: Any, output: Any) -> Any:
    """Return the cache of a forward pass; an error if it cannot follow the beams."""
    cache = getattr(output, "past_key_values", None)
    if not hasattr(cache, "reorder_cache"):
        raise InvalidValueError(
            f"{type(model).__name__} keeps no cache that beams can share: expected past_key_values with reorder_cache, "
            f"got {type(cache).__name__}. Use model.generate with a SidLogitsProcessor."
        )
    return cache


def reorder(cache: Any, rows: IntArray, width: int) -> None:
    """Give each beam the cache row of the beam it continues; also where their number changes from `width`."""
    origin = np.arange(len(rows))[:, None] * width + rows
    cache.reorder_cache(torch.from_numpy(origin.reshape(-1)))


def _start_token(model: Any) -> int:
    for config in (getattr(model, "generation_config", None), model.config):
        for name in ("decoder_start_token_id", "bos_token_id"):
            token = getattr(config, name, None)
            if token is not None:
                return int(token)
    raise InvalidValueError(
        "the decoder has no start token: expected decoder_start_token_id in the model's configuration, got none. "
        "Pass decoder_input_ids in inputs."
    )


def accepted_arguments(model: Any) -> frozenset[str]:
    """Return the names that the model's forward pass takes."""
    # PEFT wraps the model whose signature counts.
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return frozenset(inspect.signature(inner.forward).parameters)


def _check_inputs(
    inputs: Mapping[str, torch.Tensor], *, encoder_decoder: bool, unused: Set[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    known = {"input_ids", "attention_mask"} | ({"decoder_input_ids"} if encoder_decoder else set())
    if not isinstance(inputs, Mapping) or "input_ids" not in inputs or set(inputs) - known - unused:
        got = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
        raise InvalidValueError(
            f"inputs are wrong: expected a mapping with input_ids and others of {sorted(known)}, got {got}. "
            "Pass what the tokenizer returns, less the entries that generate does not use."
        )
    input_ids = inputs["input_ids"]
    for name, value in inputs.items():
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        if not isinstance(value, torch.Tensor) or value.ndim != 2 or len(value) != len(input_ids) or not value.numel():
            raise InvalidValueError(
                f"{name} is wrong: expected a tensor of shape (batch, length), got {shape}. "
                "Call the tokenizer with return_tensors='pt' and padding=True."
            )
    attention_mask = inputs.get("attention_mask", torch.ones_like(input_ids))
    if attention_mask.shape != input_ids.shape:
        raise InvalidValueError(
            f"attention_mask has a wrong shape: expected {tuple(input_ids.shape)}, got {tuple(attention_mask.shape)}. "
            "Pass the one that came with input_ids."
        )
    if not encoder_decoder and not attention_mask[:, -1].all():
        raise InvalidValueError(
            "prompts are padded on the right: expected the last column of attention_mask to be 1, got 0. "
            "Set tokenizer.padding_side = 'left'."
        )
    return input_ids, attention_mask
