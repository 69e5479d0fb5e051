"""What a trie is asked: where a prefix leads, what may follow a node, which codes an item has."""

from abc import ABC
from collections.abc import Sequence
from typing import Any

import numpy as np

from semid._arrays import CodeArray, IntArray
from semid._checks import as_array, check_integer, check_ranks
from semid.errors import InvalidValueError
from semid.kernels import kernel
from semid.trie.checks import check_depth, check_nodes, check_prefixes
from semid.trie.levels import Levels
from semid.trie.reading import codes_of
from semid.trie.restriction import EVERYTHING, Alive

__all__ = ["Questions"]


class Questions(ABC):
    """The questions that `Trie` answers; it holds the arrays, and nothing here changes them."""

    __slots__ = ()

    _levels: Levels
    _alive: Alive
    n_ranks: int
    n_levels: int
    codebook_sizes: tuple[int, ...]

    def children(self, prefix: Sequence[int] | IntArray) -> CodeArray:
        """Return the codes that may follow a prefix, sorted; none when no item starts so.

        Parameters
        ----------
        prefix : sequence of int
            At most `n_levels` codes; () for the root.
        """
        prefix = _prefix(prefix)
        node = self.walk(prefix[None])
        if len(prefix) == self.n_levels:
            return np.empty(0, self._levels.child_codes.dtype)
        return self.allowed(node, depth=len(prefix))[1]

    def walk(self, prefixes: Any) -> IntArray:
        """Return the nodes that prefixes lead to.

        Parameters
        ----------
        prefixes : array-like of shape (..., depth), integers
            ``0 <= depth <= n_levels``; any integer is allowed as a code.

        Returns
        -------
        nodes : ndarray of shape (...), dtype int64
            -1 where no item starts with the prefix. At full depth a node is the rank of the item.
        """
        return self._walk(prefixes, self._alive)

    def _walk(self, prefixes: Any, alive: Alive) -> IntArray:
        rows, shape = check_prefixes(prefixes, n_levels=self.n_levels)
        out = np.empty(len(rows), np.int64)
        kernel("walk")(*self._levels, *alive, rows, out)
        return out.reshape(shape)

    def rank(self, codes: Any) -> Any:
        """Return the lexicographic position of whole IDs: an int for one row, an array for many; -1 if unknown."""
        codes = as_array(codes, "codes")
        if codes.ndim == 0 or codes.shape[-1] != self.n_levels:
            raise InvalidValueError(
                f"codes have a wrong length: expected {self.n_levels} levels, got shape {codes.shape}. "
                "Use walk for prefixes."
            )
        ranks = self.walk(codes)
        return int(ranks) if codes.ndim == 1 else ranks

    def codes_of(self, ranks: Any) -> CodeArray:
        """Return the codes of items by rank, whether a restriction lets them be reached or not.

        Parameters
        ----------
        ranks : array-like of shape (...), integers in 0 .. n_ranks - 1

        Returns
        -------
        codes : ndarray of shape (..., n_levels), unsigned
        """
        return codes_of(self._levels, check_ranks(ranks, n_items=self.n_ranks))

    def prefix_range(self, prefix: Sequence[int] | IntArray) -> range:
        """Return the ranks below a prefix, which follow each other; those that a restriction removes are among them.

        Parameters
        ----------
        prefix : sequence of int
            At most `n_levels` codes; one that no item starts with has an empty range.
        """
        prefix = _prefix(prefix)
        low, high = self.node_ranges(self._walk(prefix[None], EVERYTHING), depth=len(prefix))[0].tolist()
        return range(low, high)

    def node_ranges(self, nodes: Any, *, depth: int) -> IntArray:
        """Return the first rank below each node and the one behind the last, shape (rows, 2); 0, 0 for node -1.

        Parameters
        ----------
        nodes : array-like of shape (rows,), integers
        depth : int
            ``0 <= depth <= n_levels``.
        """
        depth = check_integer(depth, "depth")
        if depth != self.n_levels:
            check_depth(depth, n_levels=self.n_levels)
        nodes = check_nodes(nodes, depth=depth, n_nodes=self._levels.n_nodes(depth))
        out = np.empty((len(nodes), 2), np.int64)
        kernel("ranges")(*self._levels, *self._alive, depth, nodes, out)
        return out

    def allowed(self, nodes: Any, *, depth: int) -> tuple[IntArray, CodeArray]:
        """Return the children of many nodes at once.

        Parameters
        ----------
        nodes : array-like of shape (rows,), integers
            Nodes at `depth`; -1 has no children.
        depth : int
            ``0 <= depth < n_levels``.

        Returns
        -------
        row_starts : ndarray of shape (rows + 1,), dtype int64
        codes : ndarray of shape (n_children,), unsigned
            Row r may go on with ``codes[row_starts[r] : row_starts[r + 1]]``.
        """
        depth = check_depth(depth, n_levels=self.n_levels)
        nodes = check_nodes(nodes, depth=depth, n_nodes=self._levels.n_nodes(depth))
        row_starts = np.empty(len(nodes) + 1, np.int64)
        room = np.empty(self.codebook_sizes[depth], self._levels.child_codes.dtype)
        kernel("count_children")(*self._levels, *self._alive, depth, nodes, room, row_starts)
        codes = np.empty(row_starts[-1], self._levels.child_codes.dtype)
        kernel("gather_children")(*self._levels, *self._alive, depth, nodes, row_starts, codes)
        return row_starts, codes


def _prefix(codes: Any) -> IntArray:
    """Return one prefix as an array; an empty list has the dtype float64, and is a prefix nevertheless."""
    prefix = as_array(codes, "prefix")
    if prefix.ndim != 1:
        raise InvalidValueError(
            f"prefix has a wrong shape: expected a sequence of codes, got {codes!r}. Write (0,) for the code 0; "
            "walk and allowed take many prefixes."
        )
    return prefix if prefix.size else prefix.astype(np.int64)
