"""What may follow a node, as a mask over a language model's vocabulary: of scores, or of bits."""

from typing import Any

import numpy as np

from semid._arrays import IntArray
from semid.kernels.compile import njit
from semid.kernels.nodes import list_children

__all__ = ["fill_bitmask", "mask_inplace"]


@njit
def mask_inplace(
    starts: IntArray,
    firsts: IntArray,
    child_codes: IntArray,
    forks: IntArray,
    node_offsets: IntArray,
    code_offsets: IntArray,
    alive: IntArray,
    alive_counts: IntArray,
    depth: Any,
    nodes: IntArray,
    tokens: IntArray,
    lost_token: Any,
    neg_inf: Any,
    scores: IntArray,
    codes: IntArray,
    kept: IntArray,
    empty: IntArray,
) -> None:
    """Set every score to `neg_inf` except those of the tokens of each row's children.

    Scores and `neg_inf` are bits, unsigned integers of any size. ``tokens[code]`` is a column of `scores` (rows,
    vocabulary); `codes` and `kept` are room for one row's children. A row of node -1 keeps column `lost_token`, nothing
    if that is -1. ``empty[row]`` becomes 1 where every score is `neg_inf` now, else 0.
    """
    for row in range(scores.shape[0]):
        if nodes[row] < 0:
            score = neg_inf
            if lost_token >= 0:
                score = scores[row, lost_token]
            scores[row, :] = neg_inf
            if lost_token >= 0:
                scores[row, lost_token] = score
            empty[row] = score == neg_inf
            continue
        n = list_children(
            starts, firsts, child_codes, forks, node_offsets, code_offsets, alive, alive_counts, depth, nodes[row],
            codes,
        )  # fmt: skip
        is_empty = True
        for child in range(n):
            kept[child] = scores[row, tokens[codes[child]]]
            is_empty &= kept[child] == neg_inf
        scores[row, :] = neg_inf
        for child in range(n):
            scores[row, tokens[codes[child]]] = kept[child]
        empty[row] = is_empty


@njit
def fill_bitmask(
    starts: IntArray,
    firsts: IntArray,
    child_codes: IntArray,
    forks: IntArray,
    node_offsets: IntArray,
    code_offsets: IntArray,
    alive: IntArray,
    alive_counts: IntArray,
    depth: Any,
    nodes: IntArray,
    tokens: IntArray,
    bitmask: IntArray,
    codes: IntArray,
) -> None:
    """Set the bits of the tokens of each row's children and clear all others.

    `bitmask` (rows, words) has 32 tokens a word, lowest bit first, as grammar engines lay it out; `codes` is room for
    one row's children.
    """
    for row in range(bitmask.shape[0]):
        bitmask[row, :] = 0
        if nodes[row] >= 0:
            n = list_children(
                starts, firsts, child_codes, forks, node_offsets, code_offsets, alive, alive_counts, depth, nodes[row],
                codes,
            )  # fmt: skip
            for child in range(n):
                token = tokens[codes[child]]
                bitmask[row, token >> 5] |= np.int32(1) << np.int32(token & 31)
