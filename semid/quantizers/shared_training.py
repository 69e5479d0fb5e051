"""How the scaling, the shared and the specific codebooks of several views are learnt, at once or batch by batch."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid._arrays import Int64Array, Matrix
from semid.quantizers.streaming import absorb_batch
from semid.quantizers.training import Learnt, fit_levels
from semid.quantizers.views import Scaling, column_slices, fit_scaling

__all__ = ["LearntViews", "absorb_views", "fit_views"]


class LearntViews(NamedTuple):
    """What a fit of shared and specific levels gives."""

    scaling: dict[str, Scaling]
    """Per view, how it is standardised."""
    shared: Learnt
    """Of the joined standardised views; without levels if none is shared."""
    specific: dict[str, Learnt]
    """Per view, of what the shared levels leave over; without levels if none is specific."""

    @property
    def dims(self) -> dict[str, int]:
        """Number of columns of each view."""
        return {view: len(each.mean) for view, each in self.scaling.items()}

    @property
    def columns(self) -> dict[str, slice]:
        """Columns of each view among those of the joined views."""
        return column_slices(self.dims)


def fit_views(
    matrices: Mapping[str, npt.NDArray[np.number[Any]]],
    rows: Int64Array,
    *,
    weights: Mapping[str, float],
    shared_sizes: Sequence[int],
    specific_sizes: Sequence[int],
    init: str,
    max_iter: int,
    rng: np.random.Generator,
    progress: bool = False,
) -> LearntViews:
    """Learn the shared levels on the joined views, and each view's specific levels on its part of what is left over.

    Parameters
    ----------
    matrices : mapping of str to ndarray of shape (n_items, dim of the view), any real dtype
    rows : ndarray of shape (n_rows,), dtype int64
        The training rows; no others are read.
    weights : mapping of str to float
        Total variance to which each view is scaled.
    shared_sizes, specific_sizes : sequence of int
        Number of codes of each level.
    init, max_iter, rng, progress
        As in `semid.quantizers.training.fit_levels`.
    """
    fit = functools.partial(fit_levels, init=init, max_iter=max_iter, rng=rng, progress=progress)
    scaling, parts = {}, {}
    for view, matrix in matrices.items():
        scaling[view], parts[view] = fit_scaling(matrix, rows, view=view, weight=weights[view])
    learnt = LearntViews(scaling, Learnt((), ()), {})
    if shared_sizes:
        # Both are emptied as they are used, so that the sample is in memory twice at most.
        joined = np.concatenate([parts[view] for view in scaling], axis=1)
        parts.clear()
        learnt = learnt._replace(shared=fit(joined, shared_sizes, more_follow=bool(specific_sizes)))
        parts |= {view: np.ascontiguousarray(joined[:, own]) for view, own in learnt.columns.items()}
        del joined
    return learnt._replace(specific={view: fit(parts.pop(view), specific_sizes) for view in scaling})


def absorb_views(parts: Mapping[str, Matrix], learnt: LearntViews) -> LearntViews:
    """Return what is known after one more batch of standardised views, whose arrays may be overwritten.

    The scaling stays: the codebooks live in its space.
    """
    joined = np.concatenate([parts[view] for view in learnt.scaling], axis=1)
    shared = _absorb(joined, learnt.shared)
    specific = {
        view: _absorb(np.ascontiguousarray(joined[:, own]), learnt.specific[view])
        for view, own in learnt.columns.items()
    }
    return learnt._replace(shared=shared, specific=specific)


def _absorb(batch: Matrix, learnt: Learnt) -> Learnt:
    codebooks, counts = absorb_batch(batch, learnt.codebooks, learnt.counts)
    return learnt._replace(codebooks=codebooks, counts=counts)
