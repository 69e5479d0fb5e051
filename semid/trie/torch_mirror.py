"""The trie as torch buffers: one vectorised gather per step, on the device where the logits are, without a wait."""

from typing import Any, final

import numpy as np
import torch

from semid.trie.checks import check_depth
from semid.trie.levels import IntArray
from semid.trie.trie import Trie

__all__ = ["TorchTrie"]


@final
class TorchTrie(torch.nn.Module):
    """A trie's levels as buffers of one device; `select` and `mask` give what `Trie`'s give.

    Every shape depends on the arguments and the trie alone, so that nothing waits for the device and ``torch.compile``
    makes one graph per depth. A step gathers as many children per beam as the widest node of the level has.

    Parameters
    ----------
    trie : Trie
        A restricted one, too: then only what leads to its items is copied.

    Examples
    --------
    >>> import semid, torch
    >>> mirror = TorchTrie(semid.Trie.from_codes([[0, 2], [0, 3], [1, 2]]))
    >>> scores, rows, codes, nodes = mirror.select(
    ...     torch.zeros(1, 1, 2), torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64), depth=0, k=2)
    >>> codes, nodes
    (tensor([[0, 1]]), tensor([[0, 2]]))
    """

    def __init__(self, trie: Trie) -> None:
        super().__init__()
        self.n_levels, self.codebook_sizes = trie.n_levels, trie.codebook_sizes
        self.widest: list[int] = []
        ids: IntArray = np.zeros(1, np.int64)  # nodes of a depth, and their first ranks among those that are alive
        firsts, codes = np.zeros(1, np.int64), trie.codes_of(trie.ranks())
        rises = np.zeros(len(codes), np.bool_)
        rises[:1] = True
        for depth in range(trie.n_levels):
            rises[1:] |= codes[1:, depth] != codes[:-1, depth]
            below = np.flatnonzero(rises)
            starts = np.append(np.searchsorted(below, firsts), len(below))
            if len(codes) == 0:
                starts = np.zeros(2, np.int64)
            self.register_buffer(f"ids_{depth}", torch.from_numpy(ids))
            self.register_buffer(f"starts_{depth}", torch.from_numpy(starts.astype(np.int64)))
            # One more than there are, so that a place behind the last may be read.
            level_codes = np.append(codes[below, depth].astype(np.int64), 0)
            ids = trie.walk(codes[below, : depth + 1])
            self.register_buffer(f"codes_{depth}", torch.from_numpy(level_codes))
            self.register_buffer(f"children_{depth}", torch.from_numpy(np.append(ids, -1)))
            self.widest.append(max(1, int(np.diff(starts).max(initial=0))))
            firsts = below
            if len(ids) == 0:
                ids = np.zeros(1, np.int64)

    def _checked(self, depth: int) -> int:
        """Return the depth as one of the numbers that the compiler knows: it takes an argument for a variable."""
        for known in range(self.n_levels):
            if known == depth:
                return known
        check_depth(depth, n_levels=self.n_levels)
        return depth

    def _children(self, nodes: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the edges of each node, shape (..., widest), and which of them exist."""
        ids, starts = getattr(self, f"ids_{depth}"), getattr(self, f"starts_{depth}")
        at = torch.searchsorted(ids, nodes.clamp_min(0)).clamp_max(ids.shape[0] - 1)
        known = (nodes >= 0) & (ids[at] == nodes)
        edges = starts[at][..., None] + torch.arange(self.widest[depth], device=nodes.device)
        exist = known[..., None] & (edges < starts[at + 1][..., None])
        return torch.where(exist, edges, getattr(self, f"codes_{depth}").shape[0] - 1), exist

    def select(
        self, log_probs: torch.Tensor, start: torch.Tensor, nodes: torch.Tensor, *, depth: int, k: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Keep the `k` best continuations over all beams of each request, as `Trie.select` does.

        Parameters
        ----------
        log_probs : torch.Tensor of shape (batch, beams, codebook_size), floating
        start : torch.Tensor of shape (batch, beams), floating
        nodes : torch.Tensor of shape (batch, beams), int64
        depth, k : int

        Returns
        -------
        scores, rows, codes, nodes : torch.Tensor of shape (batch, k)
            float32 and int64; -inf and -1 in empty slots.
        """
        depth = self._checked(depth)
        edges, exist = self._children(nodes, depth)
        codes = getattr(self, f"codes_{depth}")[edges]
        values = log_probs.float().gather(2, codes) + start.float()[..., None]
        values = torch.where(exist & (values > -torch.inf), values, -torch.inf).flatten(1)
        batch, n_values = values.shape
        if n_values < k:
            values = torch.cat([values, values.new_full((batch, k - n_values), -torch.inf)], dim=1)
        # A stable sort keeps the order of beams and codes where scores tie; topk promises nothing about it.
        scores, order = values.sort(dim=1, descending=True, stable=True)
        scores, order = scores[:, :k], order[:, :k]
        filled, order = scores > -torch.inf, order.clamp_max(n_values - 1)
        children = getattr(self, f"children_{depth}")[edges].flatten(1)
        found = (order // self.widest[depth], codes.flatten(1).gather(1, order), children.gather(1, order))
        rows, codes, nodes = (torch.where(filled, part, -1) for part in found)
        return scores, rows, codes, nodes

    def mask(self, scores: torch.Tensor, nodes: torch.Tensor, *, depth: int, tokens: torch.Tensor) -> torch.Tensor:
        """Return the scores with -inf where no item follows, as `Trie.mask_inplace` leaves them.

        Parameters
        ----------
        scores : torch.Tensor of shape (rows, vocabulary), floating
        nodes : torch.Tensor of shape (rows,), int64
        depth : int
        tokens : torch.Tensor of shape (codebook_size,), int64
            Column of `scores` for each code of the level.
        """
        depth = self._checked(depth)
        edges, exist = self._children(nodes, depth)
        n_columns = scores.shape[1]
        columns = torch.where(exist, tokens[getattr(self, f"codes_{depth}")[edges]], n_columns)
        allowed = torch.zeros((scores.shape[0], n_columns + 1), dtype=torch.bool, device=scores.device)
        allowed = allowed.scatter(1, columns, True)[:, :n_columns]
        return scores.masked_fill(~allowed, -torch.inf)

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """Do `select`, so that the module can be called and compiled."""
        return self.select(*arguments, **options)
