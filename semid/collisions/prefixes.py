"""Free semantic IDs near a wanted one in the prefix tree: the way out when no candidate list has room."""

import math
from collections.abc import Sequence
from typing import final

import numpy as np

from semid._arrays import Array, Int64Array
from semid.collisions.keys import KeyNumbers

__all__ = ["PrefixRoom"]


@final
class PrefixRoom:
    """Counts items under every prefix in use, and finds IDs that have room.

    Parameters
    ----------
    codebooks : sequence of ndarray of shape (codebook_size, dim), dtype float32
        One per level; distances between centroids say which sibling is near.
    capacity : int
        Number of items that one ID may hold.
    n_groups : int
        Number of separate trees.
    """

    def __init__(self, codebooks: Sequence[Array], *, capacity: int, n_groups: int = 1) -> None:
        self._codebooks = codebooks
        self._sizes = tuple(len(codebook) for codebook in codebooks)
        n_levels = len(codebooks)
        # Cut to what int64 holds: the product of all sizes may exceed it, the count of items never does.
        self._room = [min(capacity * math.prod(self._sizes[depth:]), 2**62) for depth in range(n_levels + 1)]
        self._tables = [KeyNumbers() for _ in range(n_levels)]
        self._counts = [np.zeros(n_groups if depth == 0 else 0, dtype=np.int64) for depth in range(n_levels + 1)]
        self._siblings: dict[tuple[int, int], Int64Array] = {}

    def add(self, rows: Array, groups: Int64Array) -> None:
        """Count items in: `rows` of shape (n_rows, n_levels), `groups` of shape (n_rows,)."""
        nodes = groups
        np.add.at(self._counts[0], nodes, 1)
        for level, table in enumerate(self._tables):
            nodes = table.number(nodes * self._sizes[level] + rows[:, level].astype(np.int64))
            n_missing = len(table) - len(self._counts[level + 1])
            if n_missing > 0:  # by half as much again, since items come one by one while they are placed
                spare = np.zeros(n_missing + len(table) // 2, dtype=np.int64)
                self._counts[level + 1] = np.concatenate([self._counts[level + 1], spare])
            np.add.at(self._counts[level + 1], nodes, 1)

    def place(self, wanted: Array, groups: Int64Array) -> Array:
        """Return for each wanted row an ID with room, and count it in.

        The longest prefix of the wanted ID that has room is kept. Below it, level by level, the nearest centroid to the
        wanted one is taken whose subtree has room.
        """
        placed = wanted.copy()
        for row, group in zip(placed, groups.tolist(), strict=True):
            self._place_row(row, group)
        return placed

    def _place_row(self, row: Array, group: int) -> None:
        """Replace one wanted row by an ID with room."""
        nodes = self._walk(row, group)
        depth = max(d for d, node in enumerate(nodes) if self._has_room(d, node))
        node = nodes[depth]
        for level in range(depth, len(row)):
            if node < 0:
                break  # nothing is in use below: the wanted codes are free
            order = self._siblings_by_distance(level, int(row[level]))
            children = self._tables[level].find(node * self._sizes[level] + order)
            used = np.where(children >= 0, self._counts[level + 1][children], 0)
            chosen = int(np.argmax(used < self._room[level + 1]))
            row[level], node = order[chosen], int(children[chosen])
        self.add(row[None], np.array([group]))

    def _walk(self, row: Array, group: int) -> list[int]:
        """Return the nodes along a row, from the root; -1 from where no item is."""
        nodes = [group]
        for level, code in enumerate(row.tolist()):
            known = nodes[-1] >= 0
            key = np.array([nodes[-1] * self._sizes[level] + code])
            nodes.append(int(self._tables[level].find(key)[0]) if known else -1)
        return nodes

    def _has_room(self, depth: int, node: int) -> bool:
        return node < 0 or int(self._counts[depth][node]) < self._room[depth]

    def _siblings_by_distance(self, level: int, code: int) -> Int64Array:
        """Return the codes of a level, nearest centroid to that of `code` first; `code` itself leads."""
        if (level, code) not in self._siblings:
            offsets = self._codebooks[level].astype(np.float64) - self._codebooks[level][code]
            distances = (offsets**2).sum(axis=1)
            distances[code] = -1.0  # also before its exact copies
            self._siblings[level, code] = np.argsort(distances, kind="stable")
        return self._siblings[level, code]
