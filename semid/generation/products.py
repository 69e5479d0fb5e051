"""Products of float32 matrices on a CPU by oneDNN: part of torch, which gives them to MKL.

MKL leaves the wide registers of other makers' processors unused. On an AMD EPYC with AVX-512 (Zen 5, one thread) it
reaches 80 to 110 GFLOP/s and oneDNN 165 to 230, for layers of 256 x 256 to 33,152 x 512 and 50 rows or more.
"""

import contextlib
from typing import Any, final

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["Products", "linear", "products_for"]

AVAILABLE = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)
# Multiplications from which oneDNN's larger cost of a call, 10 microseconds, is earned. The first product of a shape
# takes a third of a millisecond more.
WORTH_IT = 1 << 21
PLAIN = (torch.Tensor, torch.nn.Parameter)


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
    return type(tensor) in PLAIN and tensor.dtype is torch.float32 and tensor.device.type == "cpu"
