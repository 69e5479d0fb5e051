"""A check of what a SharedSpecificRQVAE is made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from semid._checks import check_count
from semid.errors import InvalidValueError

__all__ = ["check_latent_dims"]


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
