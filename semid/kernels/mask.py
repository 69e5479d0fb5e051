"""Keep the scores of a node's children and overwrite all others, in place."""

from typing import Any

import numpy as np
import numpy.typing as npt

from semid.kernels.compile import njit

__all__ = ["mask_rows"]

IntArray = npt.NDArray[np.integer[Any]]


@njit
def mask_rows(
    starts: IntArray,
    child_codes: IntArray,
    nodes: IntArray,
    tokens: IntArray,
    neg_inf: Any,
    scores: npt.NDArray[Any],
    kept: npt.NDArray[Any],
) -> None:
    """Set every score to `neg_inf` except those of the tokens of each row's children.

    `starts` and `child_codes` belong to one level; ``tokens[code]`` is a column of `scores` (rows, vocabulary). `kept`
    is room for one row's children. Scores may be an unsigned view of a half type, with `neg_inf` its bit pattern.
    """
    for row in range(scores.shape[0]):
        n_kept = 0
        if nodes[row] >= 0:
            for child in range(starts[nodes[row]], starts[nodes[row] + 1]):
                kept[n_kept] = scores[row, tokens[child_codes[child]]]
                n_kept += 1
        scores[row, :] = neg_inf
        if nodes[row] >= 0:
            n_kept = 0
            for child in range(starts[nodes[row]], starts[nodes[row] + 1]):
                scores[row, tokens[child_codes[child]]] = kept[n_kept]
                n_kept += 1
