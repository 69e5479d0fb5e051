"""What learns from a choice of centroids: the gradient at a centroid handed to the latent, and the losses of both."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ESTIMATORS", "quantization_loss", "rotate", "straight_through"]

# A latent or centroid shorter than this has no direction to rotate.
LEAST_NORM = 1e-6


def straight_through(x: Tensor, q: Tensor) -> Tensor:
    """Return `q` with the gradient of `x`: ``x + sg(q - x)``.

    Parameters
    ----------
    x : Tensor of shape (n_items, dim)
        Latents.
    q : Tensor of shape (n_items, dim)
        What they were quantized to; gets no gradient.
    """
    return x + (q - x).detach()


def rotate(x: Tensor, q: Tensor) -> Tensor:
    """Return `q` as a rotated and stretched `x`, and rotate the gradient back; Fifty et al. (arXiv:2410.06424), sec. 4.

    With ``a = x / |x|``, ``b = q / |q|`` and ``r = (a + b) / |a + b|`` the output is

        (|q| / |x|) (I - 2 r r^T + 2 b a^T) x = q,

    where the factor and the matrix count as constants: points on one side of a centroid stay on that side of the
    gradient, which straight-through moves all alike.

    Parameters
    ----------
    x : Tensor of shape (n_items, dim)
        Latents.
    q : Tensor of shape (n_items, dim)
        What they were quantized to; gets no gradient. Rows where either has no length pass straight through.
    """
    with torch.no_grad():
        length, target_length = x.norm(dim=1, keepdim=True), q.norm(dim=1, keepdim=True)
        a, b = x / length.clamp_min(LEAST_NORM), q / target_length.clamp_min(LEAST_NORM)
        middle = a + b
        r = middle / middle.norm(dim=1, keepdim=True).clamp_min(LEAST_NORM)
        stretch = target_length / length.clamp_min(LEAST_NORM)
        has_direction = (length > LEAST_NORM) & (target_length > LEAST_NORM)
    turned = x - 2 * (x * r).sum(1, keepdim=True) * r + 2 * (x * a).sum(1, keepdim=True) * b
    turned = torch.where(has_direction, stretch * turned, x)
    return straight_through(turned, q)  # the value without the rounding of the rotation


def quantization_loss(x: Tensor, q: Tensor, *, beta: float) -> Tensor:
    """Return ``mean (sg[x] - q)^2 + beta mean (x - sg[q])^2``; VQ-VAE (arXiv:1711.00937), equation 3.

    Parameters
    ----------
    x : Tensor of shape (n_items, dim)
        What was quantized; learns from the second term, the commitment.
    q : Tensor of shape (n_items, dim)
        Chosen centroids; learn from the first term.
    beta : float
        Weight of the commitment.

    Returns
    -------
    loss : Tensor of shape ()
        Means are over rows and dimensions.
    """
    return functional.mse_loss(q, x.detach()) + beta * functional.mse_loss(x, q.detach())


ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"straight-through": straight_through, "rotation": rotate}
