"""The output layer, asked for the logits of a few tokens or for the sum over all; and products by oneDNN."""

import contextlib
import copy
from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch.overrides import TorchFunctionMode

from semid.errors import InvalidValueError

__all__ = ["Head", "LogitsHead", "Products", "Tokens", "WeightHead", "find_head", "is_plain", "linear", "products_for"]

# Logits that the normaliser holds at a time: half a MiB of float32, which stay in the second cache of a core until they
# are summed up. Blocks of 4 MiB, with a new array for each step of the sum, took 9 instead of 2 ms besides the products
# (4 levels of 50 beams, 33,152 tokens).
CHUNK = 1 << 17


class Head(ABC):
    """From the features of beams to logits."""

    @abstractmethod
    def logits(self, features: torch.Tensor, tokens: "Tokens") -> torch.Tensor:
        """Return the logits of a level's tokens, shape (rows, n_tokens), dtype float32."""

    @abstractmethod
    def pick(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logit of one token per row, shape (rows,), dtype float32."""

    @abstractmethod
    def log_normalizer(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the sum of the exponentials of all logits, shape (rows,), dtype float32."""

    @abstractmethod
    def tempered(self, temperature: float) -> "Head":
        """Return a head whose logits are those of this one, divided by a temperature."""


@final
class Tokens:
    """The token ids of a level, as a slice where they are consecutive, so that rows of a weight need no copy.

    Attributes
    ----------
    ids : torch.Tensor of shape (n_tokens,), dtype int64
    last : int
        The largest of them.
    """

    def __init__(self, ids: torch.Tensor) -> None:
        self.ids = ids
        self.last = int(ids.max())
        first, n = int(ids[0]), len(ids)
        consecutive = bool((ids == torch.arange(first, first + n, device=ids.device)).all())
        self._slice = slice(first, first + n) if consecutive else None
        self._rows: dict[int, torch.Tensor] = {}

    def without_rows(self) -> "Tokens":
        """Return the same tokens, with no copies of rows, which a model that is trained further would outdate."""
        copied = copy.copy(self)
        copied._rows = {}
        return copied

    def of(self, table: torch.Tensor, *, keep: bool = False) -> torch.Tensor:
        """Return the tokens' rows of a table of shape (vocabulary, ...); `keep` copies of scattered rows for later."""
        if self._slice is not None:
            return table[self._slice]
        if not keep:
            return table[self.ids.to(table.device)]
        rows = self._rows.get(table.data_ptr())
        if rows is None:
            rows = self._rows[table.data_ptr()] = table[self.ids.to(table.device)]
        return rows

    def columns(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the tokens' columns of logits of shape (rows, vocabulary)."""
        if logits.shape[1] <= self.last:
            raise InvalidValueError(
                f"the model's logits have a wrong shape: expected more than {self.last} columns, got "
                f"{logits.shape[1]}. Remove the hook or wrapper that changes them."
            )
        return logits[:, self._slice] if self._slice is not None else logits[:, self.ids.to(logits.device)]


@final
class LogitsHead(Head):
    """For a model whose output layer is not plain: its features are the logits that it returned."""

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = temperature

    def logits(self, features: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Return the logits of a level's tokens."""
        return self._after(tokens.columns(features))

    def pick(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logit of one token per row."""
        return self._after(features.gather(1, tokens.to(features.device)[:, None])[:, 0])

    def log_normalizer(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the sum of the exponentials of all logits."""
        return self._after(features).logsumexp(dim=1)

    def tempered(self, temperature: float) -> "LogitsHead":
        """Return a head whose logits are divided by a temperature."""
        return LogitsHead(self.temperature * temperature)

    def _after(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.float() if self.temperature == 1.0 else logits.float() / self.temperature


@final
class WeightHead(Head):
    """A linear layer over the hidden state, with what some families do before and after it.

    Parameters
    ----------
    layer : torch.nn.Linear
    scale : float
        Factor of the hidden state; T5 with tied embeddings has ``d_model ** -0.5``.
    factor : float
        Factor of the logits.
    softcap : float, optional
        Gemma 2 bends logits into ``softcap * tanh(logits / softcap)``.
    shift : torch.Tensor of shape (vocabulary,), optional
        Added to the logits; BART's ``final_logits_bias``.
    temperature : float
        Divides the logits after all that.
    """

    def __init__(
        self,
        layer: torch.nn.Linear,
        *,
        scale: float = 1.0,
        factor: float = 1.0,
        softcap: float | None = None,
        shift: torch.Tensor | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.layer = layer
        self.scale = scale
        self.factor = factor
        self.softcap = softcap
        self.shift = shift
        self.temperature = temperature

    def logits(self, features: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Return the logits of a level's tokens."""
        weight = tokens.of(self.layer.weight, keep=True)
        bias = None if self.layer.bias is None else tokens.of(self.layer.bias)
        raw = linear(self._before(features), weight, bias)
        return self._after(raw, None if self.shift is None else tokens.of(self.shift))

    def pick(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logit of one token per row."""
        hidden, tokens = self._before(features), tokens.to(self.layer.weight.device)
        raw = torch.linalg.vecdot(hidden.float(), self.layer.weight[tokens].float())
        if self.layer.bias is not None:
            raw = raw + self.layer.bias[tokens]
        return self._after(raw, None if self.shift is None else self.shift[tokens])

    def log_normalizer(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the sum of the exponentials of all logits, a block of the vocabulary at a time."""
        hidden, weight, bias = self._before(features), self.layer.weight, self.layer.bias
        total = torch.full((len(hidden),), -torch.inf, device=hidden.device)
        block = max(256, CHUNK // len(hidden))
        for first in range(0, len(weight), block):
            part = slice(first, first + block)
            raw = linear(hidden, weight[part], None if bias is None else bias[part])
            logits = self._after(raw, None if self.shift is None else self.shift[part])
            # In place: the logits are not needed again. Finite, since a block may be closed to a whole row.
            largest = logits.amax(dim=1, keepdim=True).clamp_(min=torch.finfo(logits.dtype).min)
            summed = logits.sub_(largest).exp_().sum(dim=1).log_().add_(largest[:, 0])
            total = torch.logaddexp(total, summed)
        return total

    def tempered(self, temperature: float) -> "WeightHead":
        """Return a head whose logits are divided by a temperature."""
        if temperature == 1.0:
            return self
        copied = copy.copy(self)  # the weights are shared
        copied.temperature = self.temperature * temperature
        return copied

    def _before(self, features: torch.Tensor) -> torch.Tensor:
        features = features.to(self.layer.weight.device)
        return features if self.scale == 1.0 else features * self.scale

    def _after(self, raw: torch.Tensor, shift: torch.Tensor | None) -> torch.Tensor:
        if self.factor != 1.0:
            raw = raw * self.factor
        if shift is not None:
            raw = raw + shift.to(raw.device)
        if self.softcap is not None:
            raw = torch.tanh(raw / self.softcap) * self.softcap
        return raw.float() if self.temperature == 1.0 else raw.float() / self.temperature


PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)


def is_plain(module: torch.nn.Module) -> bool:
    """Tell whether a module's weights say all that it does: no hooks, and weights that are in memory."""
    if module._forward_hooks or module._forward_pre_hooks or hasattr(module, "_hf_hook") or "forward" in vars(module):
        return False
    return all(
        weight is None or (type(weight) in PLAIN_TENSORS and weight.device.type != "meta")
        for weight in module._parameters.values()
    )


def find_head(model: Any) -> WeightHead | None:
    """Return the output layer of a model if it is a plain linear one; `probe.abilities` checks it against the model."""
    layer = model.get_output_embeddings() if callable(getattr(model, "get_output_embeddings", None)) else None
    if type(layer) is not torch.nn.Linear or not is_plain(layer):
        return None
    config = model.config.get_text_config(decoder=True)
    scaled = bool(getattr(config, "scale_decoder_outputs", False))
    bias = getattr(model, "final_logits_bias", None)
    return WeightHead(
        layer,
        scale=config.d_model**-0.5 if scaled else 1.0,
        factor=(getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0),
        softcap=getattr(config, "final_logit_softcapping", None),
        shift=None if bias is None else bias.reshape(-1),
    )


AVAILABLE = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)
# Multiplications from which oneDNN's larger cost of a call, 10 microseconds, is earned. The first product of a shape
# takes a third of a millisecond more.
WORTH_IT = 1 << 21


def linear(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return what `torch.nn.functional.linear` does, up to rounding, by oneDNN where that is faster.

    The names are those of torch's function, since callers may pass the arguments by name.

    ``torch.backends.mkldnn.enabled = False`` turns that off.

    Parameters
    ----------
    input : torch.Tensor of shape (..., dim)
    weight : torch.Tensor of shape (n_outputs, dim)
    bias : torch.Tensor of shape (n_outputs,), optional
    """
    if (
        AVAILABLE
        and input.numel() * weight.shape[0] >= WORTH_IT
        and _is_plain(input)
        and _is_plain(weight)
        and (bias is None or _is_plain(bias))
        and torch.backends.mkldnn.enabled
        and not torch.is_grad_enabled()
    ):
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
        return product
    return torch.nn.functional.linear(input, weight, bias)


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
