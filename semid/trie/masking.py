"""Scores that lead to no item, overwritten; and nodes from tokens, as a step of a language model has them."""

import functools
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, BoolArray, IntArray
from semid._checks import check_integer
from semid.errors import InvalidTypeError, InvalidValueError
from semid.kernels import kernel
from semid.trie.checks import check_nodes, plain_int64
from semid.trie.levels import Alive, Levels

__all__ = ["check_tokens", "fill_bitmask", "mask_inplace", "mask_rows", "walk_tokens"]


# Scores go to the kernel as bits: it moves them, and compares them with minus infinity, which has one pattern.
BITS = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}


def mask_inplace(
    levels: Levels,
    alive: Alive,
    scores: Any,
    nodes: Any,
    *,
    depth: int,
    size: int,
    tokens: Any,
    lost_token: int | None,
    neg_inf: float,
) -> BoolArray:
    """Check the arguments of `Trie.mask_inplace` but `depth`, and run its kernel; `size` is the level's codebook's."""
    nodes = check_nodes(nodes, depth=depth, n_nodes=levels.n_nodes(depth))
    check_scores(scores, n_rows=len(nodes), neg_inf=neg_inf)
    tokens = check_tokens(tokens, size=size, n_columns=scores.shape[1])
    if lost_token is not None:
        lost_token = check_integer(lost_token, "lost_token")
        if not 0 <= lost_token < scores.shape[1]:
            raise InvalidValueError(
                f"lost_token does not fit: expected a column below {scores.shape[1]}, got {lost_token}. "
                "Has the model been resized for the vocabulary?"
            )
    return mask_rows(levels, alive, scores, nodes, depth=depth, tokens=tokens, lost_token=lost_token, neg_inf=neg_inf)


def mask_rows(
    levels: Levels,
    alive: Alive,
    scores: Array,
    nodes: IntArray,
    *,
    depth: int,
    tokens: IntArray,
    lost_token: int | None,
    neg_inf: float,
) -> BoolArray:
    """Run the kernel of `Trie.mask_inplace` on arguments that were checked."""
    bits = BITS[scores.itemsize]
    room, kept = np.empty(len(tokens), levels.child_codes.dtype), np.empty(len(tokens), bits)
    empty = np.empty(len(nodes), np.bool_)
    kernel("mask_inplace")(
        *levels, *alive, depth, nodes, tokens, -1 if lost_token is None else lost_token,
        _bits_of(scores.dtype, neg_inf), scores.view(bits), room, kept, empty,
    )  # fmt: skip
    return empty


@functools.lru_cache(maxsize=16)  # the same at every step
def _bits_of(dtype: np.dtype[Any], value: float) -> Any:
    return np.array(value, dtype).view(BITS[dtype.itemsize])[()]  # in the byte order of the scores


def fill_bitmask(levels: Levels, alive: Alive, bitmask: Any, nodes: Any, *, depth: int, size: int, tokens: Any) -> None:
    """Check the arguments of `Trie.fill_bitmask` but `depth`, and run its kernel; `size` is the level's codebook's."""
    nodes = check_nodes(nodes, depth=depth, n_nodes=levels.n_nodes(depth))
    check_bitmask(bitmask, n_rows=len(nodes))
    tokens = check_tokens(tokens, size=size, n_columns=32 * bitmask.shape[1])
    room = np.empty(size, levels.child_codes.dtype)
    kernel("fill_bitmask")(*levels, *alive, depth, nodes, tokens, bitmask, room)


def check_scores(scores: Any, *, n_rows: int, neg_inf: Any) -> None:
    """Raise unless scores can be overwritten with `neg_inf` as one matrix with a row per node."""
    if not isinstance(scores, np.ndarray) or scores.dtype.char not in "efd":  # float16, float32, float64
        _check_bits(scores, neg_inf)
    elif not isinstance(neg_inf, Real):
        raise InvalidTypeError(
            f"neg_inf has a wrong type: expected a number, got {type(neg_inf).__name__}. Leave it out for -inf."
        )
    if scores.ndim != 2 or len(scores) != n_rows:
        raise InvalidValueError(
            f"scores have a wrong shape: expected ({n_rows}, vocabulary), got {scores.shape}. "
            "Pass one row of scores per node."
        )
    flags = scores.flags
    if not flags.carray:
        raise InvalidValueError(
            f"scores cannot be overwritten: expected a writable and aligned array in C order, got strides "
            f"{scores.strides}, writeable={flags.writeable} and aligned={flags.aligned}. Copy it first."
        )


def _check_bits(scores: Any, neg_inf: Any) -> None:
    """Raise unless scores are an array of integers, and minus infinity one of them."""
    dtype = scores.dtype if isinstance(scores, np.ndarray) else None
    if dtype is None or dtype.kind not in "iu":
        raise InvalidTypeError(
            f"scores have a wrong dtype: expected an array of float16, float32, float64 or their bits as integers, got "
            f"{dtype or type(scores).__name__}. Convert them, and the result back."
        )
    if not (isinstance(neg_inf, int | np.integer) and np.iinfo(dtype).min <= int(neg_inf) <= np.iinfo(dtype).max):
        raise InvalidValueError(
            f"neg_inf does not fit the scores: expected an integer that {dtype} holds, got {neg_inf}. Pass the bits of "
            "minus infinity, such as 0xFF80 for bfloat16 as uint16."
        )


def check_bitmask(bitmask: Any, *, n_rows: int) -> None:
    """Raise unless the bitmask has the layout of grammar engines."""
    if not isinstance(bitmask, np.ndarray) or bitmask.dtype != np.int32:
        raise InvalidTypeError(
            f"bitmask has a wrong dtype: expected an int32 array, got {getattr(bitmask, 'dtype', type(bitmask))}. "
            "Allocate it with dtype int32."
        )
    if bitmask.ndim != 2 or len(bitmask) != n_rows or not bitmask.flags.carray:
        raise InvalidValueError(
            f"bitmask has a wrong shape: expected ({n_rows}, words), writable, aligned and in C order, got "
            f"{bitmask.shape}, strides {bitmask.strides}. Pass one row of words per node."
        )


def check_tokens(tokens: Any, *, size: int, n_columns: int) -> IntArray:
    """Return tokens as int64, or raise unless there is one for each code, within the vocabulary."""
    tokens = plain_int64(tokens, name="tokens", remedy="Take them from SidVocabulary.level_tokens.")
    if tokens.shape != (size,) or tokens.min() < 0 or tokens.max() >= n_columns:
        raise InvalidValueError(
            f"tokens do not fit: expected {size} columns below {n_columns}, got shape {tokens.shape} with largest "
            f"{tokens.max(initial=-1)}. Has the model been resized for the vocabulary?"
        )
    return tokens  # type: ignore[no-any-return]


def walk_tokens(
    levels: Levels,
    alive: Alive,
    token_ids: IntArray,
    first: int,
    tables: tuple[IntArray, IntArray, npt.NDArray[np.int32]],
) -> IntArray:
    """Return the nodes that generated tokens lead to: `Trie.walk` of ``SidVocabulary.to_codes``, without their arrays.

    Nothing is checked.

    Parameters
    ----------
    levels, alive : Levels, Alive
        Of the trie.
    token_ids : ndarray of shape (rows, first + depth), dtype int64
        ``depth <= n_levels``.
    first : int
        Column of the first generated token.
    tables : three ndarrays
        ``SidVocabulary.tables`` of a vocabulary that fits the trie.

    Returns
    -------
    nodes : ndarray of shape (rows,), dtype int64
        -1 where no item starts so, or a token is of no code of its level.
    """
    nodes = np.empty(len(token_ids), np.int64)
    kernel("walk_tokens")(*levels, *alive, np.ascontiguousarray(token_ids), first, *tables, nodes)
    return nodes
