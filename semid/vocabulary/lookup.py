"""Token ids to codes: by a table if the tokens of a level lie close together, or else by a search."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, Int64Array

__all__ = ["Lookup", "Tables"]


# The largest table, in entries per code: tokens added to a tokenizer are consecutive, others may lie anywhere.
SPARSEST = 64


class Lookup(NamedTuple):
    """The codes of a level by token id.

    Attributes
    ----------
    first : int
        The lowest token id.
    table : ndarray of shape (span + 2,), dtype int32
        Code of token ``first + i - 1``; -1 for tokens of no code and at both ends. Empty if tokens lie far apart.
    tokens, order : ndarray of shape (codebook_size,), dtype int64
        The token ids in ascending order, and their codes.

    Examples
    --------
    >>> lookup = Lookup.of(np.array([7, 3, 5]))
    >>> lookup.codes_of(np.array([3, 4, 7, 8, -100])), Lookup.of(np.array([10**9, 0])).codes_of(np.array([0, 1]))
    (array([ 1, -1,  0, -1, -1]), array([ 1, -1]))
    """

    first: int
    table: npt.NDArray[np.int32]
    tokens: Int64Array
    order: Int64Array

    @classmethod
    def of(cls, tokens: Int64Array) -> Self:
        """Make the lookup of distinct token ids, indexed by code."""
        order = np.argsort(tokens)
        rising = tokens[order]
        first, span = int(rising[0]), int(rising[-1]) - int(rising[0]) + 1
        table = np.full(span + 2 if span <= SPARSEST * len(tokens) else 0, -1, np.int32)
        if len(table):
            table[rising - first + 1] = order
        for array in (table, rising, order):
            array.setflags(write=False)
        return cls(first, table, rising, order)

    def codes_of(self, token_ids: Array) -> Int64Array:
        """Return the codes of token ids of any shape and integer dtype, -1 for tokens of no code."""
        token_ids = token_ids.astype(np.int64, copy=False)
        if len(self.table):
            # Two calls instead of a search, which took the largest part of the Python time of a decoding step.
            return self.table.take(token_ids - (self.first - 1), mode="clip").astype(np.int64)
        at = np.minimum(self.tokens.searchsorted(token_ids), len(self.tokens) - 1)
        return np.where(self.tokens[at] == token_ids, self.order[at], -1)


class Tables(NamedTuple):
    """The codes of all levels by token id, concatenated for kernels.

    Attributes
    ----------
    firsts : ndarray of shape (n_levels,), dtype int64
        The lowest token id of each level.
    starts : ndarray of shape (n_levels + 1,), dtype int64
        ``codes[starts[l] : starts[l + 1]]`` are the codes of level l, of the tokens from ``firsts[l]`` on.
    codes : ndarray of shape (starts[-1],), dtype int32
        -1 for tokens of no code.

    Examples
    --------
    >>> Tables.of([Lookup.of(np.array([7, 3, 5])), Lookup.of(np.array([9]))])
    Tables(firsts=array([3, 9]), starts=array([0, 5, 6]), codes=array([ 1, -1,  2, -1,  0,  0], dtype=int32))
    """

    firsts: Int64Array
    starts: Int64Array
    codes: npt.NDArray[np.int32]

    @classmethod
    def of(cls, lookups: Sequence[Lookup]) -> Self | None:
        """Join the tables of the levels; None without levels, or if the tokens of a level lie too far apart."""
        if not lookups or not all(len(lookup.table) for lookup in lookups):
            return None
        codes = [lookup.table[1:-1] for lookup in lookups]
        starts = np.cumsum([0, *map(len, codes)], dtype=np.int64)
        tables = cls(np.array([lookup.first for lookup in lookups], np.int64), starts, np.concatenate(codes))
        for array in tables:
            array.setflags(write=False)
        return tables
