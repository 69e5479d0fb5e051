"""What may follow a node as a mask over a vocabulary: of scores, or of bits."""

from typing import Any

import numpy as np

from semid.errors import InvalidTypeError, InvalidValueError
from semid.kernels import kernel
from semid.trie.checks import check_at
from semid.trie.levels import IntArray, Levels
from semid.trie.restriction import Alive

__all__ = ["check_bitmask", "check_scores", "check_tokens", "fill_bitmask", "mask_inplace"]


def mask_inplace(
    levels: Levels, alive: Alive, scores: Any, nodes: Any, *, depth: int, size: int, tokens: Any, neg_inf: float
) -> None:
    """Check the arguments of `Trie.mask_inplace` and run its kernel; `size` is the level's codebook's."""
    nodes = check_at(nodes, depth, levels)
    check_scores(scores, n_rows=len(nodes))
    tokens = check_tokens(tokens, size=size, n_columns=scores.shape[1])
    room, kept = np.empty(size, levels.child_codes.dtype), np.empty(size, scores.dtype)
    kernel("mask_inplace")(*levels, *alive, depth, nodes, tokens, scores.dtype.type(neg_inf), scores, room, kept)


def fill_bitmask(levels: Levels, alive: Alive, bitmask: Any, nodes: Any, *, depth: int, size: int, tokens: Any) -> None:
    """Check the arguments of `Trie.fill_bitmask` and run its kernel; `size` is the level's codebook's."""
    nodes = check_at(nodes, depth, levels)
    check_bitmask(bitmask, n_rows=len(nodes))
    tokens = check_tokens(tokens, size=size, n_columns=32 * bitmask.shape[1])
    room = np.empty(size, levels.child_codes.dtype)
    kernel("fill_bitmask")(*levels, *alive, depth, nodes, tokens, bitmask, room)


def check_scores(scores: Any, *, n_rows: int) -> None:
    """Raise unless scores can be overwritten as one matrix with a row per node."""
    if scores.ndim != 2 or len(scores) != n_rows:
        raise InvalidValueError(
            f"scores have a wrong shape: expected ({n_rows}, vocabulary), got {scores.shape}. "
            "Pass one row of scores per node."
        )
    if not (scores.flags.c_contiguous and scores.flags.writeable):
        raise InvalidValueError(
            f"scores cannot be overwritten: expected a writable array in C order, got strides {scores.strides} and "
            f"writeable={scores.flags.writeable}. Copy it first."
        )


def check_bitmask(bitmask: Any, *, n_rows: int) -> None:
    """Raise unless the bitmask has the layout of grammar engines."""
    if not isinstance(bitmask, np.ndarray) or bitmask.dtype != np.int32:
        raise InvalidTypeError(
            f"bitmask has a wrong dtype: expected an int32 array, got {getattr(bitmask, 'dtype', type(bitmask))}. "
            "Allocate it with dtype int32."
        )
    if bitmask.ndim != 2 or len(bitmask) != n_rows or not (bitmask.flags.c_contiguous and bitmask.flags.writeable):
        raise InvalidValueError(
            f"bitmask has a wrong shape: expected ({n_rows}, words), writable and in C order, got {bitmask.shape}, "
            f"strides {bitmask.strides}. Pass one row of words per node."
        )


def check_tokens(tokens: Any, *, size: int, n_columns: int) -> IntArray:
    """Return tokens as int64, or raise unless there is one for each code, within the vocabulary."""
    tokens = np.ascontiguousarray(tokens, np.int64)
    if tokens.shape != (size,) or tokens.min() < 0 or tokens.max() >= n_columns:
        raise InvalidValueError(
            f"tokens do not fit: expected {size} columns below {n_columns}, got shape {tokens.shape} with largest "
            f"{tokens.max(initial=-1)}. Has the model been resized for the vocabulary?"
        )
    return tokens  # type: ignore[no-any-return]
