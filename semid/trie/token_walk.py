"""From token ids to nodes in one kernel call, as a step of a language model has them."""

import numpy as np
import numpy.typing as npt

from semid._arrays import IntArray
from semid.kernels import kernel
from semid.trie.trie import Trie

__all__ = ["walk_tokens"]


def walk_tokens(
    trie: Trie,
    token_ids: IntArray,
    first: int,
    tables: tuple[IntArray, IntArray, npt.NDArray[np.int32]],
) -> IntArray:
    """Return the nodes that generated tokens lead to: `Trie.walk` of ``SidVocabulary.to_codes``, without their arrays.

    Nothing is checked.

    Parameters
    ----------
    trie : Trie
    token_ids : ndarray of shape (rows, first + depth), dtype int64
        ``depth <= n_levels``.
    first : int
        Column of the first generated token.
    tables : three ndarrays
        ``SidVocabulary.tables`` of a vocabulary that fits the trie.

    Returns
    -------
    nodes : ndarray of shape (rows,), dtype int64
        -1 where no item starts so, or a token is of no code of its level.
    """
    nodes = np.empty(len(token_ids), np.int64)
    kernel("walk_tokens")(*trie._levels, *trie._alive, np.ascontiguousarray(token_ids), first, *tables, nodes)
    return nodes
