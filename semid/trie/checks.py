"""What a trie accepts: every check at its border, with the message that a user reads."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from semid.errors import InvalidTypeError, InvalidValueError

__all__ = ["check_code_rows", "check_depth", "check_exclude", "check_nodes", "check_sizes"]

IntArray = npt.NDArray[np.integer[Any]]


def check_code_rows(codes: Any, *, name: str = "codes") -> IntArray:
    """Return codes as a 2-d integer array, or raise an error that says what is wrong."""
    codes = np.asarray(codes)
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
    if codes.min() < 0 or codes.max() >= 2**32:
        row, level = np.argwhere((codes < 0) | (codes >= 2**32))[0]
        raise InvalidValueError(
            f"{name} has a code out of range: expected 0 .. 4294967295, got {codes[row, level]} at row {row}, "
            f"level {level}. Codes are indices into a codebook."
        )
    return codes  # type: ignore[no-any-return]


def check_sizes(codes: IntArray, codebook_sizes: Sequence[int] | None) -> tuple[int, ...]:
    """Return the codebook sizes, by default one above the largest code of each level."""
    largest = codes.max(axis=0)
    if codebook_sizes is None:
        return tuple(int(code) + 1 for code in largest)
    sizes = tuple(int(size) for size in codebook_sizes)
    if len(sizes) != codes.shape[1]:
        raise InvalidValueError(
            f"codebook_sizes disagrees with codes: expected {codes.shape[1]} sizes, got {len(sizes)}. "
            "Give one size per level."
        )
    for level, (code, size) in enumerate(zip(largest, sizes, strict=True)):
        if code >= size:
            raise InvalidValueError(
                f"codes do not fit: expected codes below {size} at level {level}, got {code}. Check codebook_sizes."
            )
    return sizes


def check_depth(depth: int, *, n_levels: int) -> None:
    """Raise an error unless nodes at `depth` can have children."""
    if not 0 <= depth < n_levels:
        raise InvalidValueError(
            f"depth out of range: expected 0 .. {n_levels - 1}, got {depth}. Leaves have no children."
        )


def check_nodes(nodes: Any, *, depth: int, n_nodes: int) -> IntArray:
    """Return nodes as an int64 array of shape (rows,), or raise an error."""
    nodes = np.ascontiguousarray(nodes, np.int64)
    if nodes.ndim != 1 or (nodes.size and (nodes.min() < -1 or nodes.max() >= n_nodes)):
        raise InvalidValueError(
            f"nodes out of range: expected -1 .. {n_nodes - 1} at depth {depth}, got {nodes.min(initial=0)} .. "
            f"{nodes.max(initial=0)} in shape {nodes.shape}. Take them from walk or select."
        )
    return nodes  # type: ignore[no-any-return]


def check_exclude(exclude: Sequence[Iterable[int]] | None, *, batch: int, n_items: int) -> tuple[IntArray, IntArray]:
    """Return the excluded ranks of all requests, sorted within each, and where each request's begin."""
    if exclude is None:
        return np.empty(0, np.int64), np.zeros(batch + 1, np.int64)
    if len(exclude) != batch:
        raise InvalidValueError(
            f"exclude has a wrong length: expected {batch} lists of ranks, got {len(exclude)}. "
            "Give one list per request."
        )
    lists = [np.unique(np.asarray(r if hasattr(r, "__len__") else list(r), np.int64)) for r in exclude]
    ranks = np.concatenate([np.empty(0, np.int64), *lists])
    if ranks.size and (ranks.min() < 0 or ranks.max() >= n_items):
        raise InvalidValueError(
            f"exclude holds a rank out of range: expected 0 .. {n_items - 1}, got {ranks.min()} .. {ranks.max()}. "
            "Take ranks from Trie.rank or SemanticIds.ranks_of."
        )
    return ranks, np.concatenate([[0], np.cumsum([len(r) for r in lists], dtype=np.int64)])
