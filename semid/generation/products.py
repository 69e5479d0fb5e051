"""Products of float32 matrices on a CPU by oneDNN: part of torch, which gives them to MKL.

MKL leaves the wide registers of other makers' processors unused. On an AMD EPYC with AVX-512 (Zen 5, one thread) it
reaches 80 to 110 GFLOP/s and oneDNN 165 to 230, for layers of 256 x 256 to 33,152 x 512 and 50 rows or more.
"""

from typing import Any, final

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["Products", "linear"]

AVAILABLE = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)
# Multiplications from which oneDNN's larger cost of a call, 10 microseconds, is earned. The first product of a shape
# takes a third of a millisecond more.
WORTH_IT = 1 << 21


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return what `torch.nn.functional.linear` does, up to rounding, by oneDNN where that is faster.

    ``torch.backends.mkldnn.enabled = False`` turns that off.

    Parameters
    ----------
    x : torch.Tensor of shape (..., dim)
    weight : torch.Tensor of shape (n_outputs, dim)
    bias : torch.Tensor of shape (n_outputs,), optional
    """
    tensors = (x, weight) if bias is None else (x, weight, bias)
    if (
        AVAILABLE
        and x.numel() * len(weight) >= WORTH_IT
        and all(one.dtype is torch.float32 and one.device.type == "cpu" for one in tensors)
        and all(type(one) in {torch.Tensor, torch.nn.Parameter} for one in tensors)  # others may be quantized
        and torch.backends.mkldnn.enabled
        and not torch.is_grad_enabled()
    ):
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return torch.nn.functional.linear(x, weight, bias)


@final
class Products(TorchFunctionMode):
    """Within this context, linear layers that this thread runs go through `linear`; the model is not changed."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Call a function of torch, or `linear` for its namesake."""
        call = linear if func is torch.nn.functional.linear else func
        return call(*args, **(kwargs or {}))
