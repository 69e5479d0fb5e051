"""The trie's mask on torch tensors: in place on the CPU for every float type, by index elsewhere."""

from typing import Any

import numpy as np
import torch

from semid._arrays import Array, BoolArray
from semid.trie.masking import mask_rows
from semid.trie.trie import Trie

__all__ = ["mask_torch_inplace", "shared_array"]

# Minus infinity of the half types as bits: NumPy has no bfloat16.
HALF = {torch.bfloat16: np.int16(0xFF80 - (1 << 16)), torch.float16: np.int16(0xFC00 - (1 << 16))}


def mask_torch_inplace(
    trie: Trie,
    scores: torch.Tensor,
    nodes: Array,
    *,
    depth: int,
    tokens: Any,
    lost_token: int | None = None,
) -> BoolArray:
    """Overwrite with minus infinity every score that does not lead to an item.

    Parameters
    ----------
    trie : Trie
    scores : torch.Tensor of shape (rows, vocabulary), any floating dtype, any device
        Changed in place.
    nodes : ndarray of shape (rows,), dtype int64
        Nodes at `depth`, from `Trie.walk`: they are not checked. A row of node -1 loses all its scores, or all but one.
    depth : int
    tokens : ndarray of shape (codebook_size,), dtype int64
        Column of `scores` for each code of level `depth`; not checked either.
    lost_token : int, optional
        Column whose score a row of node -1 keeps.

    Returns
    -------
    empty : ndarray of shape (rows,), dtype bool
        True for a row whose scores are all minus infinity now.
    """
    shared = shared_array(scores)
    if shared is not None:
        array, neg_inf = shared
        return mask_rows(
            trie._levels, trie._alive, array, nodes, depth=depth, tokens=tokens, lost_token=lost_token, neg_inf=neg_inf
        )
    row_starts, codes = trie.allowed(nodes, depth=depth)
    lost = np.flatnonzero(nodes < 0) if lost_token is not None else np.empty(0, np.int64)
    rows = torch.from_numpy(np.concatenate([np.repeat(np.arange(len(nodes)), np.diff(row_starts)), lost]))
    columns = np.concatenate([np.asarray(tokens, np.int64)[codes], np.full(len(lost), lost_token or 0)])
    at = rows.to(scores.device), torch.from_numpy(columns).to(scores.device)
    kept = scores[at]
    scores.fill_(-torch.inf)
    scores[at] = kept
    best = torch.full(scores.shape[:1], -torch.inf, dtype=scores.dtype, device=scores.device)
    return best.scatter_reduce(0, at[0], kept, "amax").isneginf().cpu().numpy()


def shared_array(scores: torch.Tensor) -> tuple[Array, Any] | None:
    """Return an array on a tensor's memory and what minus infinity is in it; None where the memory is another device's.

    Scores of a half type come as int16, and minus infinity as its bits.
    """
    if not scores.is_cpu:
        return None
    scores = scores.detach() if scores.requires_grad else scores
    neg_inf: Any = -np.inf
    if scores.dtype in HALF:
        scores, neg_inf = scores.view(torch.int16), HALF[scores.dtype]
    array = scores.numpy()
    if not array.flags.c_contiguous:
        return None
    return array, neg_inf
