"""Checks of what several rooms are given: whole numbers, codebook sizes, arrays, a quantizer."""

import inspect
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from semid._arrays import Array
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = ["as_array", "check_count", "check_errors", "check_integer", "check_quantizer", "check_sizes", "has_member"]


def check_integer(value: Any, name: str, *, remedy: str) -> int:
    """Return a whole number of any type, NumPy's too, as an int, or raise an InvalidTypeError; True is none."""
    try:
        return _whole(value)
    except TypeError as error:
        raise InvalidTypeError(
            f"{name} has a wrong type: expected an integer, got {_described(value)}. {remedy}"
        ) from error


def check_count(value: Any, name: str, *, least: int = 1) -> int:
    """Return a whole number that is not below `least` as an int, or say what is wrong with it."""
    try:
        count = _whole(value)
    except TypeError as error:
        raise InvalidTypeError(
            f"{name} is not an integer: expected {least} or more, got {_described(value)}. Pass a whole number."
        ) from error
    if count < least:
        raise InvalidValueError(f"{name} is too small: expected {least} or more, got {count}. Raise it.")
    return count


def check_sizes(sizes: Any, name: str = "codebook_sizes") -> tuple[int, ...]:
    """Return whole numbers, one per level, as ints; their size is for the caller to judge."""
    try:
        if isinstance(sizes, str | bytes):
            raise TypeError
        each = list(sizes)
    except TypeError as error:
        raise InvalidTypeError(
            f"{name} has a wrong type: expected a sequence of integers, got {_described(sizes)}. Write [256, 256, 256]."
        ) from error
    return tuple(
        check_integer(size, f"{name}[{level}]", remedy="Pass whole numbers.") for level, size in enumerate(each)
    )


def check_errors(errors: Any) -> None:
    """Raise unless it is said what to do with an unknown id or token."""
    if errors not in ("raise", "ignore"):
        raise InvalidValueError(f"errors is unknown: expected 'raise' or 'ignore', got {errors!r}.")


def check_quantizer(quantizer: Any, needed: Sequence[str]) -> None:
    """Raise an InvalidTypeError unless an object has the members that are needed; whether it is fitted it says itself.

    Anybody's own quantizer will do, so that this asks for names and for no class.
    """
    if isinstance(quantizer, type):
        raise InvalidTypeError(
            f"quantizer has a wrong type: expected a fitted quantizer, got the class {quantizer.__name__}. "
            f"Pass {quantizer.__name__}(..).fit(X)."
        )
    missing = [name for name in needed if not has_member(quantizer, name)]
    if missing:
        raise InvalidTypeError(
            f"quantizer has a wrong type: expected a fitted quantizer, got {type(quantizer).__name__}, which has no "
            f"{', '.join(missing)}. Pass one of semid's, such as ResidualKMeans, or one with the same methods."
        )


def has_member(value: Any, name: str) -> bool:
    """Return whether an object has a member, also where asking for it raises.

    `hasattr` says no where a quantizer is not fitted: scikit-learn's NotFittedError is an AttributeError.
    """
    try:
        inspect.getattr_static(value, name)
    except AttributeError:
        return hasattr(value, name)  # through __getattr__, as wrappers do
    return True


def _whole(value: Any) -> int:
    """Return a whole number as an int, or raise a TypeError."""
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _described(value: Any) -> str:
    """Return a short value, or its type, for a message."""
    return repr(value) if value is None or isinstance(value, str | int | float) else type(value).__name__


def as_array(values: Any, name: str) -> Array:
    """Return what NumPy makes of an array-like, a torch tensor among them, of any shape and dtype."""
    if hasattr(values, "detach"):  # a torch tensor, known without importing torch
        return _from_tensor(values, name)
    if hasattr(values, "tocsr"):
        raise InvalidTypeError(
            f"{name} is a sparse matrix: expected a dense array, got {type(values).__name__}. Call its toarray()."
        )
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidValueError(
            f"{name} is ragged: expected rows of one length, got {type(values).__name__} ({error}). Pad or repair it."
        ) from error


def _from_tensor(tensor: Any, name: str) -> Array:
    try:
        tensor = tensor.detach().cpu()
        # Of the short floats NumPy has no other.
        if tensor.is_floating_point() and tensor.element_size() <= 2 and str(tensor.dtype) != "torch.float16":
            tensor = tensor.float()
        return np.asarray(tensor)
    except (TypeError, RuntimeError) as error:  # a NotImplementedError is a RuntimeError
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InvalidTypeError(
            f"{name} is a tensor without plain numbers: expected a dense tensor, got {tensor.layout}, {tensor.dtype} "
            f"on device {tensor.device} ({reason}). Make it one, as with to_dense() or dequantize()."
        ) from error
