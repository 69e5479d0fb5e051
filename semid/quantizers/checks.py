"""Checks of the arguments that quantizers share."""

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from semid._checks import check_count
from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers.starts import STARTS

__all__ = [
    "check_choice",
    "check_codebook_sizes",
    "check_hidden_sizes",
    "check_init",
    "check_seed",
    "check_unchanged",
]


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


def check_hidden_sizes(hidden_sizes: Any) -> tuple[int, ...]:
    """Return the widths of hidden layers, of which there may be none."""
    if isinstance(hidden_sizes, str) or not hasattr(hidden_sizes, "__len__"):
        raise InvalidTypeError(
            f"hidden_sizes has a wrong type: expected a sequence of integers, got {hidden_sizes!r}. Pass (512, 256), "
            "or () for no hidden layer."
        )
    return tuple(check_count(size, f"hidden_sizes[{depth}]") for depth, size in enumerate(hidden_sizes))


def check_choice(value: Any, name: str, choices: Iterable[str | None], *, between: str = " or ") -> Any:
    """Return the name of a policy, which may be None where that is one, or say which there are."""
    names = tuple(choices)
    expected = between.join(map(repr, names))
    if not isinstance(value, str | None):  # what else there is need not be hashable, nor equal to just one
        raise InvalidTypeError(
            f"{name} has a wrong type: expected {expected}, got {type(value).__name__}. Choose one of them."
        )
    if value not in names:
        raise InvalidValueError(f"{name} is unknown: expected {expected}, got {value!r}. Choose one of them.")
    return value


def check_init(init: Any) -> str:
    """Return the name of a start, or say which there are."""
    return str(check_choice(init, "init", STARTS, between=", "))


def check_seed(seed: Any, *, below: int | None = None) -> int:
    """Return a seed, or say that there must be one: fits are meant to be repeated."""
    number = check_count(seed, "seed", least=0)
    if below is not None and number >= below:
        raise InvalidValueError(f"seed is too large: expected less than {below}, got {number}. Lower it.")
    return number


def check_unchanged(now: Mapping[str, Any], fitted: Mapping[str, Any]) -> None:
    """Raise an InvalidValueError if a parameter that shapes what was learnt has changed since."""
    for name, value in fitted.items():
        if now[name] != value:
            raise InvalidValueError(
                f"{name} is not that of the fit: expected {value!r}, got {now[name]!r}. Set it back with set_params, "
                "or call fit."
            )
