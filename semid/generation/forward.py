"""What a search asks of a model: the prompt once per request, then one token for each beam."""

import contextlib
from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from transformers.modeling_outputs import BaseModelOutput

from semid._arrays import IntArray
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.interface import cache_name, cache_of, forward_arguments

__all__ = [
    "Body",
    "Forward",
    "Products",
    "accepted_arguments",
    "features_of",
    "is_plain",
    "linear",
    "products_for",
    "reorder",
]


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
        self.dtype, self.device = model.dtype, model.device
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


def is_plain(module: torch.nn.Module) -> bool:
    """Tell whether a module's weights say all that it does: no hooks, and weights that are in memory."""
    hooked = module._forward_hooks or module._forward_pre_hooks or hasattr(module, "_hf_hook")
    return not hooked and all(weight is None or weight.device.type != "meta" for weight in module._parameters.values())


AVAILABLE = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)
# Multiplications from which oneDNN's larger cost of a call, 10 microseconds, is earned. The first product of a shape
# takes a third of a millisecond more.
WORTH_IT = 1 << 21
PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return what `torch.nn.functional.linear` does, up to rounding, by oneDNN where that is faster.

    ``torch.backends.mkldnn.enabled = False`` turns that off.

    Parameters
    ----------
    x : torch.Tensor of shape (..., dim)
    weight : torch.Tensor of shape (n_outputs, dim)
    bias : torch.Tensor of shape (n_outputs,), optional
    """
    if (
        AVAILABLE
        and x.numel() * weight.shape[0] >= WORTH_IT
        and _is_plain(x)
        and _is_plain(weight)
        and (bias is None or _is_plain(bias))
        and torch.backends.mkldnn.enabled
        and not torch.is_grad_enabled()
    ):
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return torch.nn.functional.linear(x, weight, bias)


def products_for(dtype: torch.dtype, device: torch.device) -> "contextlib.AbstractContextManager[Any]":
    """Return the context for a model's passes: `Products`, or none where no layer would go to oneDNN."""
    useful = AVAILABLE and torch.backends.mkldnn.enabled and dtype is torch.float32 and device.type == "cpu"
    return Products() if useful else contextlib.nullcontext()


@final
class Products(TorchFunctionMode):
    """Within this context, linear layers that this thread runs go through `linear`; the model is not changed.

    It costs every operation of torch some 3 microseconds: enter it for a model's passes alone.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Call a function of torch, or `linear` for its namesake."""
        call = linear if func is torch.nn.functional.linear else func
        return call(*args, **kwargs) if kwargs else call(*args)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is float32 in memory; other types of tensors may be quantized."""
    return type(tensor) in PLAIN_TENSORS and tensor.dtype is torch.float32 and tensor.device.type == "cpu"
