"""Checks of the arguments of a vocabulary."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from semid._arrays import Array, Int64Array
from semid._checks import as_integers, check_integer, shown
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = [
    "check_code_rows",
    "check_eos",
    "check_n_shared",
    "check_rows",
    "check_token_ids",
    "check_token_prefixes",
    "levels_in",
]


def check_code_rows(codes: Any, codebook_sizes: tuple[int, ...]) -> Array:
    """Return codes of shape (..., depth) as an integer array, each below its codebook size."""
    rows = check_rows(codes, len(codebook_sizes), name="codes")
    for level, size in enumerate(codebook_sizes[: rows.shape[-1]]):
        column = rows[..., level]
        if column.size and (column.min() < 0 or column.max() >= size):
            wrong = column[(column < 0) | (column >= size)].flat[0]
            remedy = "Cut off padding (-1) first." if wrong == -1 else "Check codebook_sizes."
            raise InvalidValueError(
                f"codes do not fit the vocabulary: expected 0 .. {size - 1} at level {level}, got {wrong}. {remedy}"
            )
    return rows


def check_rows(given: Any, n_levels: int, *, name: str) -> Array:
    """Return an integer array of shape (..., depth) with at most `n_levels` columns."""
    rows = as_integers(given, name, remedy="Convert them explicitly.")
    if rows.ndim == 0 or rows.shape[-1] > n_levels:
        raise InvalidValueError(
            f"{name} have a wrong shape: expected (..., at most {n_levels}), got {rows.shape}. "
            "The last axis runs over the levels."
        )
    return rows


def check_token_prefixes(prefix: str | Sequence[str], n_levels: int) -> tuple[str, ...]:
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


def check_n_shared(n_shared: Any, n_levels: int) -> int:
    """Return how many leading levels views share."""
    shared = check_integer(n_shared, "n_shared", remedy="It counts leading levels.")
    if not 0 <= shared <= n_levels:
        raise InvalidValueError(
            f"n_shared is out of range: expected 0 .. {n_levels}, got {shared}. It counts leading levels."
        )
    return shared


def levels_in(given: Any, *, name: str, each: str, remedy: str) -> list[Any]:
    """Return the parts of a sequence with one part per level; an error for anything else, such as a dict of views.

    Parameters
    ----------
    given : object
    name, each, remedy : str
        What messages call `given` and its parts, and the remedy they give.
    """
    if isinstance(given, str | bytes | Mapping) or not np.iterable(given):
        got = repr(given) if given is None or isinstance(given, str) else type(given).__name__
        raise InvalidTypeError(f"{name} have a wrong type: expected {each} per level, got {got}. {remedy}")
    return list(given)


def check_token_ids(token_ids: Any, level: int, size: int | None = None) -> Int64Array:
    """Return the token ids of a level as a new int64 array of distinct ids."""
    name = f"token_ids of level {level}"
    ids = as_integers(token_ids, name, remedy="Convert them.")
    if ids.ndim != 1 or len(ids) == 0 or (size is not None and len(ids) != size):
        raise InvalidValueError(
            f"{name} have a wrong shape: expected ({size or 'codebook_size'},), got {ids.shape}. "
            "Give one token id per code."
        )
    values, counts = np.unique(ids, return_counts=True)
    if values[0] < 0 or counts.max() > 1:
        wrong = values[(values < 0) | (counts > 1)]
        raise InvalidValueError(
            f"{name} are wrong: expected distinct ids from 0 on, got {shown(wrong)}, which are negative or repeat. "
            "Give each code a token of its own."
        )
    return ids.astype(np.int64)


def check_eos(eos_token_id: Any, level_tokens: Sequence[Int64Array]) -> int | None:
    """Return the end token: None, or an integer from 0 on that is not the token of a code."""
    if eos_token_id is None:
        return None
    token = check_integer(eos_token_id, "eos_token_id", remedy="Pass one token id.")
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
