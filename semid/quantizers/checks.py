"""Checks of the arguments that quantizers share."""

from numbers import Integral
from typing import Any

from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers.starts import STARTS

__all__ = ["check_codebook_sizes", "check_count", "check_init", "check_seed"]


def check_count(value: Any, name: str, *, least: int = 1) -> int:
    """Return a whole number that is not below `least`, or say what is wrong with it."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise InvalidTypeError(
            f"{name} is not an integer: expected {least} or more, got {value!r}. Pass a whole number."
        )
    if value < least:
        raise InvalidValueError(f"{name} is too small: expected {least} or more, got {value}. Raise it.")
    return int(value)


def check_codebook_sizes(codebook_size: Any, n_levels: int) -> tuple[int, ...]:
    """Return one codebook size per level from a number for all levels, or one per level."""
    if isinstance(codebook_size, int | Integral):
        return (check_count(codebook_size, "codebook_size"),) * n_levels
    if isinstance(codebook_size, str) or not hasattr(codebook_size, "__len__"):
        raise InvalidTypeError(
            f"codebook_size has a wrong type: expected an integer or one per level, got {codebook_size!r}. "
            "Pass 256 or (256, 128, 64)."
        )
    if len(codebook_size) != n_levels:
        raise InvalidValueError(
            f"codebook_size has a wrong length: expected one size for each of {n_levels} levels, got "
            f"{len(codebook_size)}. Add or drop sizes, or pass one number."
        )
    return tuple(check_count(size, f"codebook_size[{level}]") for level, size in enumerate(codebook_size))


def check_init(init: str) -> str:
    """Return the name of a start, or say which there are."""
    if init not in STARTS:
        raise InvalidValueError(
            f"init is unknown: expected {', '.join(map(repr, STARTS))}, got {init!r}. Choose one of them."
        )
    return init


def check_seed(seed: Any) -> int:
    """Return a seed, or say that there must be one: fits are meant to be repeated."""
    return check_count(seed, "seed", least=0)
