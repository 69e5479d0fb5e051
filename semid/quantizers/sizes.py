"""Codebook sizes: one per level, from what the caller wrote."""

from typing import Any

from semid._checks import check_sizes
from semid.errors import InvalidValueError
from semid.quantizers.sampling import auto_codebook_size

__all__ = ["is_auto", "sizes_for", "sizes_for_batches"]

AUTO = "auto"
# What "auto" begins with, and what it is checked as before the items are counted.
AUTO_START = 256


def is_auto(codebook_size: Any) -> bool:
    """Return whether the sizes follow from the number of items."""
    return isinstance(codebook_size, str) and codebook_size == AUTO


def sizes_for(codebook_size: Any, n_levels: int, *, n_items: int | None) -> tuple[int, ...]:
    """Return one size per level for so many items; with None, those that "auto" begins with.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If `codebook_size` is neither "auto" nor a number nor one number per level, or one is below 1.
    """
    if is_auto(codebook_size):
        return (AUTO_START if n_items is None else auto_codebook_size(n_items, int(n_levels)),) * n_levels
    return check_sizes(codebook_size, "codebook_size", n_levels=n_levels)


def sizes_for_batches(codebook_size: Any, n_levels: int) -> tuple[int, ...]:
    """Return one size per level for a quantizer that begins with `partial_fit`, or say that it needs numbers."""
    if is_auto(codebook_size):
        raise InvalidValueError(
            "codebook_size is unknown to partial_fit: expected an integer or one per level, got 'auto', which "
            "needs the number of items. Set it, or call fit."
        )
    return check_sizes(codebook_size, "codebook_size", n_levels=n_levels)
