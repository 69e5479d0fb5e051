"""New embeddings of published items: the IDs stay, and this says how far they have fallen behind."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from semid._arrays import Array
from semid.errors import InvalidValueError
from semid.io.batches import check_embeddings
from semid.metrics.distortion import decoded_distortion

__all__ = ["Drift", "measure_drift"]


@final
@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far the published IDs of one view are from what new embeddings would ask for.

    Attributes
    ----------
    n_items : int
    n_changed : int
        Items whose nearest codes are others than before: than those of the previous embeddings where these were given,
        else than the published ID.
    n_changed_by_level : tuple of int
        The same items by the first level at which the codes differ; level 0 means another part of the space.
    distortion_before : float
        Mean squared distance between the previous embeddings and what the published IDs decode to; NaN without them.
    distortion_after : float
        The same for the new embeddings and the same IDs.
    distortion_nearest : float
        Of the new embeddings and their nearest codes, free or not: what no new IDs could fall below with a greedy
        encode.
    """

    n_items: int
    n_changed: int
    n_changed_by_level: tuple[int, ...]
    distortion_before: float
    distortion_after: float
    distortion_nearest: float


def measure_drift(quantizer: Any, published: Array, X: Any, previous: Any, nearest: Any) -> Drift:
    """Compare published codes of shape (n, n_levels) with the nearest codes of new and of previous embeddings.

    Parameters
    ----------
    quantizer : object with ``decode(codes)``
        Of one view.
    published : ndarray of shape (n, n_levels), unsigned
    X, previous : ndarray of shape (n, dim), or None for `previous`
    nearest : pair of ndarray of shape (n, n_levels), or None for the second
        Codes of `X` and of `previous`.
    """
    X = check_embeddings(X)
    if len(X) != len(published):
        raise InvalidValueError(
            f"X and item_ids have different lengths: expected {len(published)} rows, got {len(X)}. Give one per id."
        )
    before = np.nan
    if previous is not None:
        previous = check_embeddings(previous, name="previous", dim=X.shape[1])
        if len(previous) != len(published):
            raise InvalidValueError(
                f"previous and item_ids have different lengths: expected {len(published)} rows, got {len(previous)}. "
                "Give one per id."
            )
        before = decoded_distortion(previous, published, quantizer.decode)
    now, reference = nearest[0], published if nearest[1] is None else nearest[1]
    differs = now != reference
    changed = differs.any(axis=1)
    first = np.bincount(differs[changed].argmax(axis=1), minlength=published.shape[1])
    return Drift(
        n_items=len(published),
        n_changed=int(changed.sum()),
        n_changed_by_level=tuple(first.tolist()),
        distortion_before=float(before),
        distortion_after=decoded_distortion(X, published, quantizer.decode),
        distortion_nearest=decoded_distortion(X, now, quantizer.decode),
    )
