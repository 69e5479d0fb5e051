"""Keys and values of a prompt that all beams of a request read, held once per request."""

from collections.abc import Callable
from typing import Any, Self, final

import torch

__all__ = ["SharedStates", "share"]


@final
class SharedStates(torch.Tensor):
    """Keys or values of shape (batch, heads, length, dim) that attention may meet with batch * width rows of queries.

    Row ``r`` of the queries belongs to request ``r // width``. The rows of a request become query positions of one row,
    so that nothing is repeated. Only the operations of Hugging Face's ``sdpa`` and ``eager`` attention are known here;
    `probe.abilities` makes sure that a model gets by with them. Being a property of the tensor, this changes neither
    the model nor any other thread.
    """

    @classmethod
    def of(cls, states: torch.Tensor) -> Self:
        """Wrap keys or values without copying them."""
        return states.as_subclass(cls)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Fold the rows of a request into one where attention asks for it; all else is done as on plain tensors."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if func is torch.nn.functional.scaled_dot_product_attention:
                return _sdpa(*(_plain(a) for a in args), **{name: _plain(value) for name, value in kwargs.items()})
            if func in {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__}:
                return _matmul(*(_plain(a) for a in args))
            result = func(*(_plain(a) for a in args), **kwargs)
        # Eager attention turns the keys before it multiplies by them.
        return cls.of(result) if func is torch.Tensor.transpose else result


def share(cache: Any) -> bool:
    """Mark the cross-attention states of an `EncoderDecoderCache` as shared; False if the cache is of another kind."""
    cross = getattr(cache, "cross_attention_cache", None)
    layers = getattr(cross, "layers", [])
    # A layer that is not updated would compute its keys again from the encoding, of which a step passes only the shape.
    updated = getattr(cache, "is_updated", {})
    if not layers or not all(updated.get(at) and layer.is_initialized for at, layer in enumerate(layers)):
        return False
    for layer in layers:
        layer.keys, layer.values = SharedStates.of(layer.keys), SharedStates.of(layer.values)
    return True


def _plain(value: Any) -> Any:
    return value.as_subclass(torch.Tensor) if isinstance(value, SharedStates) else value


def _fold(rows: torch.Tensor, batch: int) -> torch.Tensor:
    """Turn (batch * width, heads, n, dim) into (batch, heads, width * n, dim)."""
    n_rows, heads, n, dim = rows.shape
    return rows.reshape(batch, n_rows // batch, heads, n, dim).transpose(1, 2).reshape(batch, heads, -1, dim)


def _unfold(folded: torch.Tensor, n_rows: int, n: int) -> torch.Tensor:
    batch, heads, _, dim = folded.shape
    return folded.reshape(batch, heads, n_rows // batch, n, dim).transpose(1, 2).reshape(n_rows, heads, n, dim)


def _sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: Any = None, **options: Any
) -> torch.Tensor:
    batch, (n_rows, _, n, _) = len(key), query.shape
    if attn_mask is not None and attn_mask.shape[0] == n_rows != batch:
        # What a beam may see of the prompt is the same for all beams of a request, and for all its positions.
        attn_mask = attn_mask.unflatten(0, (batch, -1))[:, 0][:, :, :1]
    elif attn_mask is not None:
        attn_mask = attn_mask[:, :, :1]
    attend = torch.nn.functional.scaled_dot_product_attention
    return _unfold(attend(_fold(query, batch), key, value, attn_mask=attn_mask, **options), n_rows, n)


def _matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return _unfold(torch.matmul(_fold(left, len(right)), right), len(left), left.shape[2])
