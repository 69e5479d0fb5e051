"""Checks of what a trie is given: types that kernels read, codes, prefixes, nodes, depths and restrictions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, BoolArray, Int64Array, IntArray
from semid._checks import as_array, as_integers, check_integer, check_ranks, check_sizes
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = [
    "FLOAT32",
    "FROM_WALK",
    "INT64",
    "check_code_rows",
    "check_depth",
    "check_nodes",
    "check_prefixes",
    "check_restriction",
    "plain",
    "plain_floats",
    "plain_int64",
    "sizes_of",
]


INT64, FLOAT32 = np.dtype(np.int64), np.dtype(np.float32)


def plain(array: Any, dtype: npt.DTypeLike) -> Array:
    """Return an array as a kernel may read it, converted to a native `dtype`.

    A kernel sees bytes and an item's size. Codes of the other byte order would be read as other codes, and lead it out
    of its arrays.
    """
    rows: Array = np.ascontiguousarray(array, dtype)
    return rows if rows.flags.aligned else rows.copy()


def plain_floats(values: Any, *, name: str) -> npt.NDArray[np.float32]:
    """Return numbers as a float32 array that a kernel may read; an error for anything else."""
    if type(values) is not np.ndarray or values.dtype is not FLOAT32:  # called at every step of a search
        values = as_array(values, name)
        if values.dtype.kind not in "fiub":
            raise InvalidTypeError(
                f"{name} has a wrong dtype: expected float32, got {values.dtype}. Convert it to numbers."
            )
    with np.errstate(over="ignore"):
        rows: npt.NDArray[np.float32] = plain(values, FLOAT32)
    return rows


def plain_int64(values: Any, *, name: str, remedy: str) -> Int64Array:
    """Return integers as an int64 array that a kernel may read; an error for anything else, unless it is empty."""
    if type(values) is not np.ndarray or values.dtype is not INT64:  # called at every step of a search
        values = as_integers(values, name, remedy=remedy)
    rows: Int64Array = np.ascontiguousarray(values, INT64)
    return rows if rows.flags.aligned else rows.copy()


FROM_WALK = "Take them from walk or select."


def check_code_rows(codes: Any, *, name: str = "codes") -> IntArray:
    """Return codes as a 2-d integer array, or raise an error that says what is wrong."""
    given = as_array(codes, name, remedy="Pad them, or see Trie.from_sequences.")
    if given.ndim != 2 or given.shape[1] == 0:
        raise InvalidValueError(
            f"{name} has a wrong shape: expected (n_items, n_levels), got {given.shape}. "
            "Pass one row of codes per item."
        )
    if given.shape[0] == 0:
        raise InvalidValueError(f"{name} is empty: expected at least 1 item, got 0. An empty trie cannot constrain.")
    rows = as_integers(given, name, remedy="Convert it explicitly.")
    unsigned_below = rows.dtype.kind == "u" and rows.dtype.itemsize < 8  # nothing can be out of range
    if not unsigned_below and (rows.min() < 0 or rows.max() >= 2**32):
        row, level = np.argwhere((rows < 0) | (rows >= 2**32))[0]
        raise InvalidValueError(
            f"{name} has a code out of range: expected 0 .. 4294967295, got {rows[row, level]} at row {row}, "
            f"level {level}. Codes are indices into a codebook."
        )
    return rows


def sizes_of(codes: IntArray, codebook_sizes: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the codebook sizes, given for all levels or each, by default one above the largest code of each level."""
    if codebook_sizes is None:
        return tuple(int(codes[:, level].max()) + 1 for level in range(codes.shape[1]))
    sizes = check_sizes(codebook_sizes, n_levels=codes.shape[1])
    if max(sizes) > 2**32:
        raise InvalidValueError(
            f"codebook_sizes is too large: expected at most 4294967296, got {max(sizes)}. Codes have 32 bits at most."
        )
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


def check_depth(depth: Any, *, n_levels: int) -> int:
    """Return a depth whose nodes can have children as an int, or raise an error."""
    level = depth if type(depth) is int else check_integer(depth, "depth")  # called at every step of a search
    if not 0 <= level < n_levels:
        raise InvalidValueError(
            f"depth out of range: expected 0 .. {n_levels - 1}, got {level}. Leaves have no children."
        )
    return level


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


def check_prefixes(prefixes: Any, *, n_levels: int) -> tuple[IntArray, tuple[int, ...]]:
    """Return prefixes as an int64 array of shape (rows, depth) and the shape of one code of each, or raise an error."""
    prefixes = as_integers(prefixes, "prefixes", remedy="Convert them explicitly.")
    if prefixes.ndim == 0 or prefixes.shape[-1] > n_levels:
        raise InvalidValueError(
            f"prefixes have a wrong shape: expected (..., at most {n_levels}), got {prefixes.shape}. "
            "A prefix is no longer than an ID."
        )
    n_rows = math.prod(prefixes.shape[:-1])
    return plain(prefixes.reshape(n_rows, prefixes.shape[-1]), INT64), prefixes.shape[:-1]


def check_restriction(mask_or_ranks: Any, *, n_items: int) -> BoolArray:
    """Return a mask by rank from a mask or from ranks in any order."""
    given = as_array(mask_or_ranks, "restriction")
    if given.ndim != 1:
        raise InvalidValueError(
            f"restriction has a wrong shape: expected ({n_items},) booleans or a list of ranks, got {given.shape}."
        )
    if given.dtype == np.bool_:
        if len(given) != n_items:
            raise InvalidValueError(
                f"mask has a wrong length: expected {n_items} booleans, one per rank of the whole trie, got "
                f"{len(given)}. Put them in the order of the ranks."
            )
        return given
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise InvalidTypeError(
            f"restriction has a wrong dtype: expected booleans or integer ranks, got {given.dtype}. Convert it."
        )
    ranks = check_ranks(given, n_items=n_items, name="restriction")
    mask = np.zeros(n_items, np.bool_)
    mask[ranks] = True
    if len(given) == n_items and not mask.all():
        raise InvalidValueError(
            f"restriction is ambiguous: expected booleans or distinct ranks, got {n_items} integers, one an item, "
            "with repetitions. Pass a mask as booleans, with astype(bool), or numpy.unique of the ranks."
        )
    return mask
