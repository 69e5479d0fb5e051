"""Checks of the arguments that quantizers share."""

from collections.abc import Iterable, Mapping
from typing import Any

from semid._checks import check_count
from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers.starts import STARTS

__all__ = [
    "check_choice",
    "check_hidden_sizes",
    "check_init",
    "check_unchanged",
]


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


def check_unchanged(now: Mapping[str, Any], fitted: Mapping[str, Any]) -> None:
    """Raise an InvalidValueError if a parameter that shapes what was learnt has changed since."""
    for name, value in fitted.items():
        if now[name] != value:
            raise InvalidValueError(
                f"{name} is not that of the fit: expected {value!r}, got {now[name]!r}. Set it back with set_params, "
                "or call fit."
            )
