"""IDs of different lengths, such as titles: rows of one length, filled up with an end token."""

import itertools
import operator
from collections.abc import Iterable, Sequence

import numpy as np

from semid._arrays import IntArray
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = ["pad_sequences"]


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
    sequences = sequences if isinstance(sequences, Sequence | np.ndarray) else list(sequences)
    if len(sequences) == 0:
        raise InvalidValueError("sequences is empty: expected at least 1, got 0. An empty trie cannot constrain.")
    try:
        end = operator.index(end)
        lengths = np.array([len(sequence) for sequence in sequences])
        tokens = map(operator.index, itertools.chain.from_iterable(sequences))  # a fraction is not cut off
        flat = np.fromiter(tokens, np.int64, int(lengths.sum()))
    except TypeError as error:
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
