"""Metrics of ranked lists with one relevant item each: hit rate and NDCG."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from semid.errors import InvalidValueError

from .dataset import IntArray

__all__ = ["CUTOFFS", "gains", "metrics", "ranks_of"]

CUTOFFS = (1, 5, 10, 20)

FloatArray = npt.NDArray[np.float64]


def ranks_of(ranked: IntArray, relevant: IntArray) -> IntArray:
    """Return the 0-based place of each relevant item in its list, -1 where the list does not hold it.

    Parameters
    ----------
    ranked : ndarray of shape (n_requests, list_length), integer dtype
        Best first; -1 pads a shorter list.
    relevant : ndarray of shape (n_requests,), integer dtype

    Returns
    -------
    ranks : ndarray of shape (n_requests,), dtype int64

    Raises
    ------
    InvalidValueError
        If the two do not have one row per request.
    """
    if ranked.ndim != 2 or relevant.shape != ranked.shape[:1]:
        raise InvalidValueError(
            f"lists and relevant items do not match: expected (n_requests, list_length) and (n_requests,), "
            f"got {ranked.shape} and {relevant.shape}. Give one list and one item per request."
        )
    hits = ranked == relevant[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), -1)


def gains(ranks: IntArray, *, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, FloatArray]:
    """Return HR@k and NDCG@k of each request, shape (n_requests,), dtype float64, in the order of the cutoffs.

    With one relevant item at 0-based rank r: HR@k = [r < k] and NDCG@k = [r < k] / log2(r + 2), since the ideal list
    has it first and a gain of one. A rank of -1 counts 0.
    """
    gain = np.where(ranks >= 0, 1 / np.log2(np.maximum(ranks, 0) + 2), 0)
    result = {}
    for k in cutoffs:
        within = (ranks >= 0) & (ranks < k)
        result[f"HR@{k}"] = within.astype(np.float64)
        result[f"NDCG@{k}"] = np.where(within, gain, 0)
    return result


def metrics(ranks: IntArray, *, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Return the mean HR@k and NDCG@k over the requests, in the order of the cutoffs; see `gains`.

    Raises
    ------
    InvalidValueError
        If there are no requests.
    """
    if not len(ranks):
        raise InvalidValueError("no requests to average over: expected at least one rank, got none. Check the split.")
    return {name: float(values.mean()) for name, values in gains(ranks, cutoffs=cutoffs).items()}
