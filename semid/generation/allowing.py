"""Overwrite the scores of rows so that only items can follow, and so that every row keeps a finite score."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from semid.trie import Trie
from semid.trie.mask import mask_torch_inplace, shared_array

__all__ = ["FORCED", "allow_children", "allow_one"]

IntArray = npt.NDArray[np.integer[Any]]

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
    lost = np.flatnonzero(nodes < 0)
    at = torch.from_numpy(lost)
    kept = _finite(scores[at, lost_token]) if len(lost) else None
    mask_torch_inplace(trie, scores, nodes, depth=depth, tokens=tokens)
    if kept is not None:
        scores[at, lost_token] = kept
    # One look per row, at its first child: only where that has -inf, by the model or since a restriction has removed
    # it, can all others have it, too.
    rows = np.flatnonzero(nodes >= 0) if len(lost) else np.arange(len(nodes))
    suspects = rows[_are_neg_inf(scores, rows, tokens[trie.first_codes(nodes[rows], depth=depth)])]
    if len(suspects):
        _revive(trie, scores, suspects, nodes[suspects], depth=depth, tokens=tokens)


def _are_neg_inf(scores: torch.Tensor, rows: IntArray, columns: IntArray) -> npt.NDArray[np.bool_]:
    """Tell which of the scores at (row, column) are minus infinity."""
    shared = shared_array(scores)
    if shared is not None:
        array, neg_inf = shared
        return array[rows, columns] == array.dtype.type(neg_inf)  # type: ignore[no-any-return]
    return scores[torch.from_numpy(rows), torch.from_numpy(columns)].isneginf().cpu().numpy()


def _revive(trie: Trie, scores: torch.Tensor, rows: IntArray, nodes: IntArray, *, depth: int, tokens: IntArray) -> None:
    """Give the children of a row a finite score where all of them have -inf."""
    row_starts, codes = trie.allowed(nodes, depth=depth)
    n_children = np.diff(row_starts)
    at = np.repeat(rows, n_children), tokens[codes]
    dead = _are_neg_inf(scores, *at)
    # A node in hand has at least one child, so that no piece is empty.
    forced = np.repeat(np.logical_and.reduceat(dead, row_starts[:-1]), n_children)
    scores[torch.from_numpy(at[0][forced]), torch.from_numpy(at[1][forced])] = FORCED


def _finite(scores: torch.Tensor) -> torch.Tensor:
    return torch.where(scores.isneginf(), FORCED, scores)
