"""The trie's mask on torch tensors: in place on the CPU for every float type, by index elsewhere."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from semid.trie.trie import Trie

if TYPE_CHECKING:
    import torch

__all__ = ["mask_torch_inplace", "shared_array"]


def mask_torch_inplace(trie: Trie, scores: "torch.Tensor", nodes: npt.NDArray[Any], *, depth: int, tokens: Any) -> None:
    """Overwrite with minus infinity every score that does not lead to an item.

    Parameters
    ----------
    trie : Trie
    scores : torch.Tensor of shape (rows, vocabulary), any floating dtype, any device
        Changed in place.
    nodes : ndarray of shape (rows,), dtype int64
        Nodes at `depth`; a row of node -1 loses all its scores.
    depth : int
    tokens : ndarray of shape (codebook_size,), dtype int64
        Column of `scores` for each code of level `depth`.
    """
    import torch

    shared = shared_array(scores)
    if shared is not None:
        array, neg_inf = shared
        trie.mask_inplace(array, nodes, depth=depth, tokens=tokens, neg_inf=neg_inf)
        return
    row_starts, codes = trie.allowed(nodes, depth=depth)
    rows = torch.from_numpy(np.repeat(np.arange(len(nodes)), np.diff(row_starts))).to(scores.device)
    columns = torch.from_numpy(np.asarray(tokens, np.int64)[codes]).to(scores.device)
    kept = scores[rows, columns]
    scores.fill_(-torch.inf)
    scores[rows, columns] = kept


def shared_array(scores: "torch.Tensor") -> tuple[npt.NDArray[Any], float] | None:
    """Return an array on a tensor's memory and what minus infinity is in it; None where the memory is another device's.

    Scores of a half type come as uint16, since NumPy has no bfloat16, and minus infinity as its bits.
    """
    import torch

    if scores.device.type != "cpu" or not scores.is_contiguous():
        return None
    half = {torch.bfloat16: 0xFF80, torch.float16: 0xFC00}
    if scores.dtype in half:
        return scores.detach().view(torch.int16).numpy().view(np.uint16), half[scores.dtype]
    return scores.detach().numpy(), -np.inf
