"""One beam step as STATIC does it on PyTorch (arXiv:2602.22647): dense tables near the root, padded gathers below."""

from typing import Any, NamedTuple

import numpy as np
import torch

__all__ = ["PaddedTrie"]


class Level(NamedTuple):
    table: Any
    starts: torch.Tensor
    codes: torch.Tensor
    widest: int


class PaddedTrie:
    """Tables of next nodes for the first two levels, then child starts; every row reads the widest node's children."""

    def __init__(self, codes, codebook_size, *, is_sorted=False):
        if not is_sorted:
            codes = codes[np.lexsort(codes.T[::-1])]
        self.size, self.levels = codebook_size, []
        parent = np.zeros(len(codes), np.int64)
        opened = np.zeros(len(codes), bool)
        opened[0] = True
        for depth in range(codes.shape[1]):
            opened[1:] |= codes[1:, depth] != codes[:-1, depth]
            first = np.flatnonzero(opened)
            owner, code = parent[first], codes[first, depth].astype(np.int64)
            n_nodes = int(parent[-1]) + 1
            starts = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n_nodes))])
            table = None
            if depth < 2:
                table = np.full((n_nodes, codebook_size), -1, np.int32)
                table[owner, code] = np.arange(len(first), dtype=np.int32)
                table = torch.from_numpy(table)
            code = torch.from_numpy(np.append(code, 0))
            self.levels.append(Level(table, torch.from_numpy(starts), code, int(np.diff(starts).max())))
            parent = np.cumsum(opened) - 1

    def select(self, log_probs, start, nodes, depth, k):
        table, starts, codes, widest = self.levels[depth]
        if table is not None:
            child = table[nodes]
            values = torch.where(child >= 0, log_probs + start[..., None], -torch.inf)
        else:
            child = starts[nodes][..., None] + torch.arange(widest)
            exist = child < starts[nodes + 1][..., None]
            child = torch.where(exist, child, len(codes) - 1)
            values = log_probs.gather(2, codes[child]) + start[..., None]
            values = torch.where(exist, values, -torch.inf)
        scores, at = values.flatten(1).topk(k)
        return scores, at // child.shape[2], child.flatten(1).gather(1, at)
