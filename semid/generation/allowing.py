"""Overwrite the scores of rows so that only items can follow, and so that every row keeps a finite score."""

import numpy as np
import torch

from semid._arrays import IntArray
from semid.trie import Trie
from semid.trie.mask import mask_torch_inplace

__all__ = ["FORCED", "allow_children", "allow_one"]


# Score of the tokens that stay allowed in a row whose allowed tokens another processor had all removed. Finite, so that
# sampling has something to draw; far below any sum of log-probabilities, so that no beam is promoted by it; within
# float16.
FORCED = -1e4


def allow_one(scores: torch.Tensor, token: int) -> None:
    """Leave one token to every row, such as the end token after a complete ID."""
    kept = _finite(scores[:, token])
    scores.fill_(-torch.inf)
    scores[:, token] = kept


def allow_children(
    trie: Trie, scores: torch.Tensor, nodes: IntArray, *, depth: int, tokens: IntArray, lost_token: int
) -> None:
    """Leave each row the tokens of its node's children; `lost_token` to a row that has left the trie.

    Parameters
    ----------
    trie : Trie
    scores : torch.Tensor of shape (rows, vocabulary), any floating dtype, any device
        Changed in place.
    nodes : ndarray of shape (rows,), dtype int64
        Nodes at `depth`, -1 for a row that has left the trie.
    depth : int
    tokens : ndarray of shape (codebook_size,), dtype int64
        Column of `scores` for each code of level `depth`.
    lost_token : int
    """
    empty = mask_torch_inplace(trie, scores, nodes, depth=depth, tokens=tokens, lost_token=lost_token)
    if empty.any():
        _revive(trie, scores, np.flatnonzero(empty), nodes, depth=depth, tokens=tokens, lost_token=lost_token)


def _revive(
    trie: Trie, scores: torch.Tensor, rows: IntArray, nodes: IntArray, *, depth: int, tokens: IntArray, lost_token: int
) -> None:
    """Give the tokens that may follow a finite score in rows where all of them have -inf."""
    lost = nodes[rows] < 0
    scores[torch.from_numpy(rows[lost]), lost_token] = FORCED
    row_starts, codes = trie.allowed(nodes[rows], depth=depth)
    scores[torch.from_numpy(np.repeat(rows, np.diff(row_starts))), torch.from_numpy(tokens[codes])] = FORCED


def _finite(scores: torch.Tensor) -> torch.Tensor:
    return torch.where(scores.isneginf(), FORCED, scores)
