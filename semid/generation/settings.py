"""What a search is told besides its prompts: beams, normaliser and draws, checked once."""

import math
import numbers
from typing import Any, NamedTuple

from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.inputs import check_count, check_flag

__all__ = ["Settings", "check_settings"]

# Below, the logits of a model, divided by it, may leave the range of float32; at it they are far from that.
LEAST_TEMPERATURE = 1e-30

NORMALIZERS = ("full", "window", "allowed")


class Settings(NamedTuple):
    """Checked arguments of `generate` that do not depend on the requests."""

    num_beams: int
    num_return: int
    normalize: str
    outside: bool
    do_sample: bool
    temperature: float


def check_settings(
    *,
    num_beams: int,
    num_return: int | None = None,
    normalize: str = "full",
    outside: bool = False,
    do_sample: bool = False,
    temperature: float = 1.0,
) -> Settings:
    """Return settings as a search takes them, or raise an error that says which one is wrong."""
    num_beams = check_count(num_beams, "num_beams")
    num_return = num_beams if num_return is None else check_count(num_return, "num_return", at_most=num_beams)
    if not isinstance(normalize, str) or normalize not in NORMALIZERS:
        raise InvalidValueError(f"normalize is unknown: expected one of {NORMALIZERS}, got {normalize!r}.")
    outside, do_sample = check_flag(outside, "outside"), check_flag(do_sample, "do_sample")
    return Settings(num_beams, num_return, normalize, outside, do_sample, _check_temperature(temperature))


def _check_temperature(temperature: Any) -> float:
    if not isinstance(temperature, numbers.Real) or isinstance(temperature, bool):
        raise InvalidTypeError(
            f"temperature has a wrong type: expected a number, got {temperature!r}. 1.0 leaves the model as it is."
        )
    try:
        value = float(temperature)
    except OverflowError:  # of a long integer
        value = math.inf
    if not 0 < value < math.inf:
        raise InvalidValueError(
            f"temperature is out of range: expected a finite number above 0, got {value}. "
            "For the best items instead of draws, leave do_sample at False."
        )
    if value < LEAST_TEMPERATURE:
        raise InvalidValueError(
            f"temperature is too small: expected {LEAST_TEMPERATURE} or more, got {value}: logits divided by it are no "
            "numbers of float32. For the best items instead of draws, leave do_sample at False."
        )
    return value
