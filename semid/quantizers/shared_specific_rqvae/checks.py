"""Checks of what a SharedSpecificRQVAE is made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers.checks import check_count

__all__ = ["check_hidden_sizes", "check_latent_dims"]


def check_hidden_sizes(hidden_sizes: Any) -> tuple[int, ...]:
    """Return the widths of hidden layers, of which there may be none."""
    if isinstance(hidden_sizes, str) or not hasattr(hidden_sizes, "__len__"):
        raise InvalidTypeError(
            f"hidden_sizes has a wrong type: expected a sequence of integers, got {hidden_sizes!r}. Pass (512, 256), "
            "or () for no hidden layer."
        )
    return tuple(check_count(size, f"hidden_sizes[{depth}]") for depth, size in enumerate(hidden_sizes))


def check_latent_dims(latent_dim: Any, views: Sequence[str]) -> dict[str, int]:
    """Return one latent dim per view from a number for all views, or a mapping with one per view."""
    if not isinstance(latent_dim, Mapping):
        return dict.fromkeys(views, check_count(latent_dim, "latent_dim"))
    if set(latent_dim) != set(views):
        raise InvalidValueError(
            f"latent_dim has other views: expected {', '.join(map(repr, views))}, got "
            f"{', '.join(map(repr, latent_dim))}. Give one number per view, or one for all."
        )
    return {view: check_count(latent_dim[view], f"latent_dim[{view!r}]") for view in views}
