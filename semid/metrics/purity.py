"""Prefix purity: whether the items below a prefix bear the same label."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import CodeArray, DoubleArray
from semid.errors import InvalidValueError
from semid.metrics.usage import prefix_keys

__all__ = ["check_labels", "prefix_purity"]


def check_labels(labels: Any, *, n_items: int) -> npt.NDArray[np.str_]:
    """Return labels as strings, shape (n_items,); a label that is a list is compared as a whole.

    Raises
    ------
    InvalidValueError
        If they are not one per item.
    """
    try:
        names = np.asarray(labels, dtype=str)
        nested = names.ndim > 1 and not isinstance(labels, np.ndarray)
    except (TypeError, ValueError):  # lists of several lengths, records
        nested = True
    if nested:
        names = np.array([str(label) for label in labels])
    if names.ndim != 1:
        raise InvalidValueError(
            f"labels have a wrong shape: expected ({n_items},), got {names.shape}. Pass one label per item."
        )
    if len(names) != n_items:
        raise InvalidValueError(
            f"labels and codes disagree: expected {n_items} labels, got {len(names)}. Pass one label per item."
        )
    return names


def prefix_purity(codes: CodeArray, codebook_sizes: Sequence[int], labels: npt.NDArray[np.str_]) -> DoubleArray:
    """Return for each level the share of items that bear the most frequent label of their prefix.

    With ``n(p, t)`` items of label ``t`` below prefix ``p``, it is ``sum_p max_t n(p, t) / n_items`` over the prefixes
    up to the level: the purity of a clustering whose clusters are the prefixes.

    Parameters
    ----------
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype
    codebook_sizes : sequence of int
    labels : ndarray of shape (n_items,), dtype str

    Returns
    -------
    purity : ndarray of shape (n_levels,), dtype float64
    """
    names, label = np.unique(labels, return_inverse=True)
    purity = []
    for keys in prefix_keys(codes, codebook_sizes):
        prefix = np.unique(keys, return_inverse=True)[1]
        pairs, n_items = np.unique(prefix * len(names) + label, return_counts=True)
        starts = np.flatnonzero(np.diff(pairs // len(names), prepend=-1))
        purity.append(np.maximum.reduceat(n_items, starts).sum() / len(codes))
    return np.array(purity)
