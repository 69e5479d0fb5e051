"""From codes in any order to the arrays of a trie: sorted as numbers, laid out by level, merged, padded."""

import itertools
import operator
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from semid._arrays import CodeArray, IntArray
from semid._checks import code_dtype
from semid.errors import InvalidTypeError, InvalidValueError
from semid.kernels import kernel
from semid.trie.checks import check_code_rows, plain, sizes_of
from semid.trie.levels import EVERYTHING, Alive, Levels, alive_from, all_codes, find_ranks, level_offsets

__all__ = ["DuplicateCodesWarning", "build_levels", "merge_levels", "pad_sequences", "update_levels"]


# A level is explicit while it has at most one edge for so many items: there an edge's two pointers cost less than the
# codes and bits of its items, and a crowded node's children are found without a look at its items.
ITEMS_PER_EDGE = 8


# Rows are spread over at most 2^BUCKET_BITS buckets, and over fewer where that would leave fewer than 2^FEW_BITS rows
# to each.
BUCKET_BITS, FEW_BITS = 16, 5


class SortedKeys(NamedTuple):
    """Sorted distinct rows, as keys in buckets; ``semid/kernels/sorting.py`` says what they mean.

    Attributes
    ----------
    codes : ndarray of shape (n_rows, n_levels), unsigned
        The rows given, in their order.
    bits : ndarray of shape (n_levels,), dtype int64
    n_key, n_low, n_position : int
    ends : ndarray of shape (n_buckets,), dtype uint32
    keys : ndarray of shape (n_rows,), unsigned
        The first ``ends[-1]`` are those of the items.
    """

    codes: CodeArray
    bits: IntArray
    n_key: int
    n_low: int
    n_position: int
    ends: IntArray
    keys: CodeArray

    @property
    def n_items(self) -> int:
        """Number of distinct rows."""
        return int(self.ends[-1])


def sort_keys(codes: CodeArray, codebook_sizes: Sequence[int]) -> tuple[SortedKeys, IntArray]:
    """Sort rows and drop equal ones.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_levels), unsigned, C order
        Below `codebook_sizes`, one per level.

    Returns
    -------
    rows : SortedKeys
    n_forks : ndarray of shape (n_levels,), dtype int64
        Items that leave the item before them at each level.

    One pass writes every row's key into the bucket of its first bits, so that a key needs no more than the bits that
    are left, and a bucket's keys are sorted in place, in the caches: half the time and a third of the memory of sorting
    all of them at once (1e6 rows of 4 x 256 codes: 2 bytes a key).
    """
    if len(codes) >= 2**32:
        raise InvalidValueError(
            f"codes has too many rows: expected at most {2**32 - 1}, got {len(codes)}. Build a trie of each part."
        )
    bits = np.array([max(1, (int(size) - 1).bit_length()) for size in codebook_sizes], np.int64)
    n_key, n_low, n_position, dtype = _layout(bits, len(codes))
    ends = np.zeros(1 << (int(bits[:n_key].sum()) - n_low), np.uint32)
    layout = (codes, bits, n_key, n_low, n_position, ends)
    kernel("count_keys")(*layout)
    keys: CodeArray = np.empty(len(codes), dtype)
    n_forks = np.zeros(len(bits), np.int64)
    kernel("scatter_keys")(*layout, keys)
    kernel("sort_keys")(ends, keys)
    if n_position:
        kernel("sort_ties")(*layout, keys)
    kernel("drop_repeats")(*layout, keys, n_forks)
    return SortedKeys(*layout, keys), n_forks


def _layout(bits: IntArray, n_rows: int) -> tuple[int, int, int, type]:
    """Return `n_key`, `n_low`, `n_position` and the type of a key."""
    n_bucket = min(max(n_rows.bit_length() - FEW_BITS, 0), BUCKET_BITS)
    n_bits = int(bits.sum())
    if n_bits <= 64:
        n_low = max(n_bits - n_bucket, 0)
        for width, dtype in ((16, np.uint16), (32, np.uint32)):
            # Some more buckets where they make keys smaller.
            if n_low <= width or (n_rows >= 1 << BUCKET_BITS and n_bits - BUCKET_BITS <= width):
                return len(bits), min(n_low, width), 0, dtype
        return len(bits), n_low, 0, np.uint64
    n_position = max(n_rows - 1, 1).bit_length()
    n_key = int((np.cumsum(bits) <= min(64, 64 - n_position + n_bucket)).sum())
    return n_key, max(int(bits[:n_key].sum()) - n_bucket, 0), n_position, np.uint64


class DuplicateCodesWarning(UserWarning):
    """Several rows of codes were equal, so that the trie has fewer items than rows."""


def build_levels(codes: IntArray, codebook_sizes: Sequence[int], *, warn: bool = True) -> Levels:
    """Build the arrays from checked codes; warns when rows were equal, unless told not to."""
    # As unsigned, which codes that are not negative are too, so that a kernel is compiled once per width.
    unsigned: CodeArray = plain(codes, codes.dtype.newbyteorder("=")).view(f"u{codes.dtype.itemsize}")
    rows, n_forks = sort_keys(unsigned, codebook_sizes)
    if warn and rows.n_items < len(codes):
        warnings.warn(
            f"{len(codes) - rows.n_items} of {len(codes)} rows repeat another row: the trie has {rows.n_items} items. "
            "Make the codes unique with semid.resolve.",
            DuplicateCodesWarning,
            stacklevel=3,
        )
    return _fill(rows, np.cumsum(n_forks), code_dtype(max(codebook_sizes)))


def _fill(rows: SortedKeys, n_edges: IntArray, dtype: np.dtype[Any]) -> Levels:
    n_items = rows.n_items
    n_explicit = int((n_edges[:-1] * ITEMS_PER_EDGE <= n_items).sum())  # the last level is flat: leaves are ranks
    node_offsets, code_offsets = level_offsets(n_edges, n_explicit)
    pointer = np.int32 if n_items < 2**31 else np.int64
    starts, firsts = np.empty(node_offsets[n_explicit], pointer), np.empty(node_offsets[-1], pointer)
    child_codes = np.empty(code_offsets[-1], dtype)
    forks = np.empty((len(n_edges) - 1 - n_explicit) * ((n_items + 63) // 64), np.uint64)
    kernel("fill_levels")(*rows, n_explicit, starts, firsts, node_offsets, child_codes, code_offsets, forks)
    firsts[0] = 0
    for depth in range(n_explicit + 1):  # one past the last node of each depth
        firsts[node_offsets[depth + 1] - 1] = n_items
        if depth < n_explicit:
            starts[node_offsets[depth + 1] - 1] = n_edges[depth]
    return Levels(starts, firsts, child_codes, forks, node_offsets, code_offsets)


def merge_levels(one: tuple[Levels, Alive], other: tuple[Levels, Alive], sizes: tuple[int, ...]) -> Levels:
    """Return the arrays of a trie of what two tries reach, see `Trie.merge`."""
    rows = np.concatenate([all_codes(levels)[alive.mask(levels.n_items)] for levels, alive in (one, other)])
    if not len(rows):
        raise InvalidValueError(
            "nothing to merge: expected at least 1 item, got 0. Both tries are restricted to no items."
        )
    return build_levels(rows, sizes, warn=False)


def update_levels(
    levels: Levels, alive: Alive, sizes: tuple[int, ...], *, added: Any, removed: Any
) -> tuple[Levels, Alive]:
    """Return the arrays of a trie after items came and went, see `Trie.update`."""
    came, gone = (_rows(codes, levels, sizes, name) for codes, name in ((added, "added"), (removed, "removed")))
    ranks = find_ranks(levels, gone)  # an item that is out of stock can be removed
    if (ranks < 0).any():
        unknown = gone[ranks < 0]
        raise InvalidValueError(
            f"codes to remove are unknown: expected IDs of the trie, got {unknown[0].tolist()} and {len(unknown) - 1} "
            "others. Was this change applied before?"
        )
    stays = np.ones(levels.n_items, np.bool_)
    stays[ranks] = False
    known = find_ranks(levels, came)
    again = (known >= 0) & stays[known]
    if again.any():
        raise InvalidValueError(
            f"codes to add are taken: expected new IDs, got {came[again][0].tolist()} and {again.sum() - 1} others. "
            "Remove these items in the same call, or was this change applied before?"
        )
    if not len(came) and not stays.any():
        raise InvalidValueError(
            f"no item would be left: expected fewer than {levels.n_items} IDs to remove, got all. "
            "Use restrict([]) for a trie that reaches nothing."
        )
    new = build_levels(np.concatenate([all_codes(levels)[stays], came]), sizes)
    if not len(alive.alive):
        return new, EVERYTHING
    # Items that stay keep their state, new ones can be reached. Ranks follow codes: those that stay keep their order.
    mask, old = np.ones((2, new.n_items), np.bool_)
    old[find_ranks(new, came)] = False
    mask[old] = alive.mask(levels.n_items)[stays]
    return new, alive_from(mask)


def _rows(codes: Any, levels: Levels, sizes: tuple[int, ...], name: str) -> CodeArray | IntArray:
    """Return checked rows in the dtype of the trie's codes; no rows are fine."""
    dtype = levels.child_codes.dtype
    if codes is None or (isinstance(codes, list | tuple) and not codes) or np.shape(codes)[:1] == (0,):
        return np.empty((0, len(sizes)), dtype)
    rows = check_code_rows(codes, name=name)
    if rows.shape[1] != len(sizes):
        raise InvalidValueError(
            f"{name} has a wrong shape: expected (n, {len(sizes)}), got {rows.shape}. Pass one row per item."
        )
    sizes_of(rows, sizes)
    return rows.astype(dtype)


def pad_sequences(sequences: Iterable[Sequence[int]], *, end: int, n_levels: int | None = None) -> IntArray:
    """Return sequences as rows that end with the end token, at least once.

    Parameters
    ----------
    sequences : iterable of sequences of int
        Not negative, and without `end`; one may be the beginning of another.
    end : int
        Token that ends a sequence.
    n_levels : int, optional
        Length of the rows; default: one more than the longest sequence.

    Returns
    -------
    rows : ndarray of shape (n_sequences, n_levels), dtype int64

    Examples
    --------
    >>> pad_sequences([[5, 7], [5]], end=1)
    array([[5, 7, 1],
           [5, 1, 1]])
    """
    if not isinstance(sequences, Iterable) or isinstance(sequences, str | bytes) or np.ndim(end) != 0:
        raise InvalidTypeError(
            f"sequences have a wrong type: expected sequences of integers and an integer as end, got "
            f"{type(sequences).__name__} and {type(end).__name__}. Pass token ids."
        )
    try:
        sequences = sequences if isinstance(sequences, Sequence | np.ndarray) else list(sequences)
        n_sequences = len(sequences)
    except TypeError as error:
        raise InvalidTypeError(
            f"sequences have a wrong type: expected sequences of integers, got {error}. Pass token ids."
        ) from error
    if n_sequences == 0:
        raise InvalidValueError("sequences is empty: expected at least 1, got 0. An empty trie cannot constrain.")
    try:
        end = operator.index(end)
        lengths = np.array([len(sequence) for sequence in sequences])
        tokens = map(operator.index, itertools.chain.from_iterable(sequences))  # a fraction is not cut off
        flat = np.fromiter(tokens, np.int64, int(lengths.sum()))
        if not -(1 << 63) <= end < 1 << 63:
            raise OverflowError(f"{end}, which has more than 64 bits")
    except (TypeError, OverflowError, ValueError) as error:
        raise InvalidTypeError(
            f"sequences hold something else: expected sequences of integers and an integer as end, got {error}. "
            "Pass token ids."
        ) from error
    longest = int(lengths.max())
    width = longest + 1 if n_levels is None else n_levels
    if longest >= width:
        raise InvalidValueError(
            f"a sequence is too long: expected at most {width - 1} tokens and the end, got {longest}. "
            "Take n_levels from the trie."
        )
    if (flat == end).any():
        number = int(np.repeat(np.arange(len(lengths)), lengths)[np.argmax(flat == end)])
        raise InvalidValueError(
            f"a sequence holds the end token: expected it behind the last token only, got {end} in sequence {number}. "
            "Leave it out: it is added."
        )
    rows = np.full((len(lengths), width), end, np.int64)
    rows[np.arange(width) < lengths[:, None]] = flat
    return rows
