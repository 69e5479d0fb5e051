"""Checks of what a vocabulary is given; each message says what to do."""

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from semid._arrays import Array, Int64Array
from semid._checks import as_array
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = [
    "check_codes",
    "check_eos",
    "check_prefixes",
    "check_rows",
    "check_seed",
    "check_sizes",
    "check_token_ids",
    "check_views",
    "levels_in",
    "shown",
]


def check_codes(codes: Any, codebook_sizes: tuple[int, ...]) -> Array:
    """Return codes of shape (..., depth) as an integer array, each below its codebook size."""
    rows = check_rows(codes, len(codebook_sizes), name="codes")
    for level, size in enumerate(codebook_sizes[: rows.shape[-1]]):
        column = rows[..., level]
        if column.size and (column.min() < 0 or column.max() >= size):
            wrong = column[(column < 0) | (column >= size)].flat[0]
            raise InvalidValueError(
                f"codes do not fit the vocabulary: expected 0 .. {size - 1} at level {level}, got {wrong}. "
                "Cut padding (-1) off first."
            )
    return rows


def check_rows(given: Any, n_levels: int, *, name: str) -> Array:
    """Return an integer array of shape (..., depth) with at most `n_levels` columns."""
    rows = as_array(given, name)
    if rows.ndim == 0 or rows.shape[-1] > n_levels:
        raise InvalidValueError(
            f"{name} have a wrong shape: expected (..., at most {n_levels}), got {rows.shape}. "
            "The last axis runs over the levels."
        )
    if rows.size == 0:
        return rows.astype(np.int64)  # an empty list has the dtype float64
    if not np.issubdtype(rows.dtype, np.integer):
        raise InvalidTypeError(
            f"{name} have a wrong dtype: expected integers, got {rows.dtype}. Convert them explicitly."
        )
    return rows


def check_sizes(codebook_sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the codebook sizes as a tuple of positive ints."""
    try:
        sizes = tuple(operator.index(size) for size in codebook_sizes)
    except TypeError as error:
        raise InvalidTypeError(
            f"codebook_sizes are wrong: expected one integer per level, got {codebook_sizes!r}. Write [256, 256, 256]."
        ) from error
    if not sizes or min(sizes) < 1:
        raise InvalidValueError(
            f"codebook_sizes are wrong: expected at least one level of at least one code, got {list(sizes)}. "
            "Write [256, 256, 256]."
        )
    return sizes


def check_prefixes(prefix: str | Sequence[str], n_levels: int) -> tuple[str, ...]:
    """Return one prefix per level."""
    if not isinstance(prefix, Iterable):
        raise InvalidTypeError(
            f'prefix has a wrong type: expected one name, or one per level, got {prefix!r}. Write "sid".'
        )
    prefixes = (prefix,) * n_levels if isinstance(prefix, str) else tuple(prefix)
    if len(prefixes) != n_levels:
        raise InvalidValueError(
            f"prefix has a wrong length: expected {n_levels} names, got {len(prefixes)}. Give one, or one per level."
        )
    for name in prefixes:
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
            raise InvalidValueError(
                f"prefix is wrong: expected letters, digits, '_', '-' or '.', got {name!r}. "
                "Spaces and <> would split tokens."
            )
    return prefixes


def check_views(views: Any, n_shared: Any, n_levels: int) -> tuple[tuple[str, ...], int]:
    """Return the names of views, and how many of their levels are shared."""
    try:
        shared = operator.index(n_shared)
    except TypeError as error:
        raise InvalidTypeError(
            f"n_shared has a wrong type: expected an integer, got {n_shared!r}. It counts leading levels."
        ) from error
    if not 0 <= shared <= n_levels:
        raise InvalidValueError(
            f"n_shared is out of range: expected 0 .. {n_levels}, got {shared}. It counts leading levels."
        )
    names = () if isinstance(views, str) or not isinstance(views, Iterable) else tuple(views)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InvalidValueError(f"views are wrong: expected distinct names, got {views!r}. Name each view once.")
    return names, shared


def levels_in(given: Any, *, name: str, each: str, remedy: str) -> list[Any]:
    """Return what is given per level; an error for anything that is no sequence, such as the levels of several views.

    Parameters
    ----------
    given : object
    name, each, remedy : str
        What messages call `given` and its parts, and what they advise.
    """
    if isinstance(given, str | bytes | Mapping) or not np.iterable(given):
        got = repr(given) if given is None or isinstance(given, str) else type(given).__name__
        raise InvalidTypeError(f"{name} have a wrong type: expected {each} per level, got {got}. {remedy}")
    return list(given)


def check_seed(seed: Any) -> int:
    """Return a seed that torch takes; None is none, since rows are meant to be made again."""
    try:
        number = operator.index(seed)
    except TypeError as error:
        raise InvalidTypeError(f"seed has a wrong type: expected an integer, got {seed!r}. Pass one, as 0.") from error
    if not 0 <= number < 2**64:
        raise InvalidValueError(f"seed is out of range: expected 0 .. {2**64 - 1}, got {number}. Pass one, as 0.")
    return number


def check_token_ids(token_ids: Any, level: int, size: int | None = None) -> Int64Array:
    """Return the token ids of a level as a new int64 array of distinct ids."""
    ids = as_array(token_ids, f"token_ids of level {level}")
    if ids.ndim != 1 or len(ids) == 0 or (size is not None and len(ids) != size):
        raise InvalidValueError(
            f"token_ids of level {level} have a wrong shape: expected ({size or 'codebook_size'},), got {ids.shape}. "
            "Give one token id per code."
        )
    if not np.issubdtype(ids.dtype, np.integer):
        raise InvalidTypeError(
            f"token_ids of level {level} have a wrong dtype: expected integers, got {ids.dtype}. Convert them."
        )
    values, counts = np.unique(ids, return_counts=True)
    if values[0] < 0 or counts.max() > 1:
        wrong = values[(values < 0) | (counts > 1)]
        raise InvalidValueError(
            f"token_ids of level {level} are wrong: expected distinct ids from 0 on, got {shown(wrong)} "
            "negative or twice. Two codes cannot be one token."
        )
    return ids.astype(np.int64)


def check_eos(eos_token_id: Any, level_tokens: Sequence[Int64Array]) -> int | None:
    """Return the end token, or raise unless it is None, or one integer from 0 on that is no code of a level."""
    if eos_token_id is None:
        return None
    try:
        token = operator.index(eos_token_id)
    except TypeError as error:
        raise InvalidTypeError(
            f"eos_token_id has a wrong type: expected one integer, got {eos_token_id!r}. Choose the one to end with."
        ) from error
    if token < 0:
        raise InvalidValueError(
            f"eos_token_id is negative: expected 0 or more, got {token}. Pass None for no end token."
        )
    for level, tokens in enumerate(level_tokens):
        if (tokens == token).any():
            raise InvalidValueError(
                f"eos_token_id is a code: expected a token of no level, got {token}, code "
                f"{int(np.argmax(tokens == token))} of level {level}. A text would end within an ID: take another."
            )
    return token


def shown(values: Any) -> str:
    """Return the first few values as text for a message."""
    shown = [value.item() if isinstance(value, np.generic) else value for value in list(values)[:5]]
    return f"{shown}{' and more' if len(values) > 5 else ''}"
