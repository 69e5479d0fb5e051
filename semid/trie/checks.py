"""What a trie accepts: every check at its border, with the message that a user reads."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from semid._arrays import IntArray
from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie.levels import Levels
from semid.trie.plain import INT64, as_array, plain, plain_int64

__all__ = [
    "FROM_WALK",
    "are_nodes",
    "check_at",
    "check_code_rows",
    "check_depth",
    "check_integer",
    "check_nodes",
    "check_prefixes",
    "check_ranks",
    "check_sizes",
]


FROM_WALK = "Take them from walk or select."


def check_code_rows(codes: Any, *, name: str = "codes") -> IntArray:
    """Return codes as a 2-d integer array, or raise an error that says what is wrong."""
    codes = as_array(codes, name=name)
    if codes.ndim != 2 or codes.shape[1] == 0:
        raise InvalidValueError(
            f"{name} has a wrong shape: expected (n_items, n_levels), got {codes.shape}. "
            "Pass one row of codes per item."
        )
    if codes.shape[0] == 0:
        raise InvalidValueError(f"{name} is empty: expected at least 1 item, got 0. An empty trie cannot constrain.")
    if not np.issubdtype(codes.dtype, np.integer):
        raise InvalidTypeError(
            f"{name} has a wrong dtype: expected integers, got {codes.dtype}. Convert it explicitly."
        )
    unsigned_below = codes.dtype.kind == "u" and codes.dtype.itemsize < 8  # nothing can be out of range
    if not unsigned_below and (codes.min() < 0 or codes.max() >= 2**32):
        row, level = np.argwhere((codes < 0) | (codes >= 2**32))[0]
        raise InvalidValueError(
            f"{name} has a code out of range: expected 0 .. 4294967295, got {codes[row, level]} at row {row}, "
            f"level {level}. Codes are indices into a codebook."
        )
    return codes  # type: ignore[no-any-return]


def check_sizes(codes: IntArray, codebook_sizes: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the codebook sizes, given for all levels or each, by default one above the largest code of each level."""
    if codebook_sizes is None:
        return tuple(int(codes[:, level].max()) + 1 for level in range(codes.shape[1]))
    sizes = _sizes(codebook_sizes, n_levels=codes.shape[1])
    # The largest code of all is found several times faster than that of each level, and often says enough.
    if codes.max() < min(sizes):
        return sizes
    largest = [codes[:, level].max() for level in range(codes.shape[1])]
    for level, (code, size) in enumerate(zip(largest, sizes, strict=True)):
        if code >= size:
            raise InvalidValueError(
                f"codes do not fit: expected codes below {size} at level {level}, got {code}. Check codebook_sizes."
            )
    return sizes


def _sizes(codebook_sizes: int | Sequence[int], *, n_levels: int) -> tuple[int, ...]:
    try:
        each = [codebook_sizes] * n_levels if isinstance(codebook_sizes, int | np.integer) else codebook_sizes
        sizes = tuple(operator.index(size) for size in each)
    except TypeError as error:
        raise InvalidTypeError(
            f"codebook_sizes has a wrong type: expected an integer, or one per level, got {codebook_sizes!r}. "
            "Write [256, 256, 256]."
        ) from error
    if len(sizes) != n_levels:
        raise InvalidValueError(
            f"codebook_sizes disagrees with codes: expected {n_levels} sizes, got {len(sizes)}. "
            "Give one size per level."
        )
    if max(sizes) > 2**32:
        raise InvalidValueError(
            f"codebook_sizes is too large: expected at most 4294967296, got {max(sizes)}. Codes have 32 bits at most."
        )
    return sizes


def check_depth(depth: int, *, n_levels: int) -> None:
    """Raise an error unless nodes at `depth` can have children."""
    check_integer(depth, name="depth")
    if not 0 <= depth < n_levels:
        raise InvalidValueError(
            f"depth out of range: expected 0 .. {n_levels - 1}, got {depth}. Leaves have no children."
        )


def check_integer(value: Any, *, name: str) -> None:
    """Raise an error unless a number is an integer."""
    if type(value) is not int and not isinstance(value, int | np.integer):
        raise InvalidTypeError(f"{name} has a wrong type: expected an integer, got {value!r}. Convert it explicitly.")


def are_nodes(nodes: IntArray, n_nodes: int) -> bool:
    """Tell whether all nodes, int64, are in ``-1 .. n_nodes - 1``; one pass, as what is below -1 becomes large."""
    return not nodes.size or bool((nodes + 1).view(np.uint64).max() <= n_nodes)


def check_nodes(nodes: Any, *, depth: int, n_nodes: int) -> IntArray:
    """Return nodes as an int64 array of shape (rows,), or raise an error."""
    nodes = plain_int64(nodes, name="nodes", remedy=FROM_WALK)
    if nodes.ndim != 1 or not are_nodes(nodes, n_nodes):
        got = f"{nodes.min()} .. {nodes.max()}" if nodes.size else "none"
        raise InvalidValueError(
            f"nodes out of range: expected -1 .. {n_nodes - 1} at depth {depth} in one row, got {got} in shape "
            f"{nodes.shape}. {FROM_WALK}"
        )
    return nodes  # type: ignore[no-any-return]


def check_at(nodes: Any, depth: int, levels: Levels) -> IntArray:
    """Return nodes that can have children as an int64 array of shape (rows,), or raise an error."""
    check_depth(depth, n_levels=levels.n_levels)
    return check_nodes(nodes, depth=depth, n_nodes=levels.n_nodes(depth))


def check_prefixes(prefixes: Any, *, n_levels: int) -> tuple[IntArray, tuple[int, ...]]:
    """Return prefixes as an int64 array of shape (rows, depth) and the shape of one code of each, or raise an error."""
    prefixes = as_array(prefixes, name="prefixes")
    if prefixes.ndim == 0 or prefixes.shape[-1] > n_levels:
        raise InvalidValueError(
            f"prefixes have a wrong shape: expected (..., at most {n_levels}), got {prefixes.shape}. "
            "A prefix is no longer than an ID."
        )
    if not np.issubdtype(prefixes.dtype, np.integer) and prefixes.shape[-1] > 0:
        raise InvalidTypeError(
            f"prefixes have a wrong dtype: expected integers, got {prefixes.dtype}. Convert them explicitly."
        )
    n_rows = math.prod(prefixes.shape[:-1])
    return plain(prefixes.reshape(n_rows, prefixes.shape[-1]), INT64), prefixes.shape[:-1]


def check_ranks(ranks: Any, *, n_items: int) -> IntArray:
    """Return ranks as an integer array, or raise an error."""
    ranks = as_array(ranks, name="ranks")
    if ranks.size and not np.issubdtype(ranks.dtype, np.integer):
        raise InvalidTypeError(f"ranks have a wrong dtype: expected integers, got {ranks.dtype}. Convert them.")
    if ranks.size and (ranks.min() < 0 or ranks.max() >= n_items):
        wrong = ranks[(ranks < 0) | (ranks >= n_items)].flat[0]
        raise InvalidValueError(f"rank out of range: expected 0 .. {n_items - 1}, got {wrong}.")
    return ranks.astype(np.int64)  # type: ignore[no-any-return]
