"""IDs of different lengths, such as titles: rows of one length, filled up with an end token."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from semid.errors import InvalidValueError
from semid.trie.levels import IntArray

__all__ = ["pad_sequences"]


def pad_sequences(sequences: Sequence[Sequence[int]], *, end: int, n_levels: int | None = None) -> IntArray:
    """Return sequences as rows that end with the end token, at least once.

    Parameters
    ----------
    sequences : sequence of sequences of int
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
    if len(sequences) == 0:
        raise InvalidValueError("sequences is empty: expected at least 1, got 0. An empty trie cannot constrain.")
    lengths = np.array([len(sequence) for sequence in sequences])
    longest = int(lengths.max())
    width = longest + 1 if n_levels is None else n_levels
    if longest >= width:
        raise InvalidValueError(
            f"a sequence is too long: expected at most {width - 1} tokens and the end, got {longest}. "
            "Take n_levels from the trie."
        )
    flat: Any = np.fromiter((token for sequence in sequences for token in sequence), np.int64, int(lengths.sum()))
    if (flat == end).any():
        number = int(np.repeat(np.arange(len(lengths)), lengths)[np.argmax(flat == end)])
        raise InvalidValueError(
            f"a sequence holds the end token: expected it behind the last token only, got {end} in sequence {number}. "
            "Leave it out: it is added."
        )
    rows = np.full((len(lengths), width), end, np.int64)
    rows[np.arange(width) < lengths[:, None]] = flat
    return rows
