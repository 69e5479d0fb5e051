"""Levels that several views share, and levels of each: fitted, absorbed and encoded."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import CodeArray, Int64Array, Matrix
from semid.io.matrices import check_codes
from semid.quantizers.learnt import Learnt, LearntViews, fit_scaling
from semid.quantizers.levels import absorb_batch, fit_levels
from semid.quantizers.residual import ResidualKMeans

__all__ = ["absorb_views", "encode_shared_specific", "fit_views", "quantizer_of"]


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
        As in `semid.quantizers.levels.fit_levels`.
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


BLOCK_ROWS = 16_384


def encode_shared_specific(
    n_items: int,
    parts_of: Callable[[slice], dict[str, npt.NDArray[np.float32]]],
    shared: ResidualKMeans | None,
    specific: Mapping[str, ResidualKMeans | None],
    columns: Mapping[str, slice],
    *,
    sizes: Sequence[int],
    beam: int,
) -> dict[str, CodeArray]:
    """Return the codes of each view, shape (n_items, n_shared + n_specific), block by block.

    Parameters
    ----------
    n_items : int
    parts_of : callable
        Block of rows -> view -> ndarray of shape (n_rows, dim of the view), in the space of the codebooks.
    shared : ResidualKMeans or None
        Of the joined views; None without shared levels.
    specific : mapping of str to ResidualKMeans or None
        Per view; None without specific levels.
    columns : mapping of str to slice
        Where each view stands among the joined columns.
    sizes : sequence of int
        Number of codes of each level.
    beam : int
    """
    n_shared = 0 if shared is None else shared.n_levels
    codes = {view: check_codes(np.zeros((n_items, len(sizes)), np.uint8), sizes) for view in specific}
    for first in range(0, n_items, BLOCK_ROWS):
        block = slice(first, min(first + BLOCK_ROWS, n_items))
        parts = parts_of(block)
        if shared is not None:
            joined = np.concatenate(list(parts.values()), axis=1)
            found = shared.encode(joined, beam=beam)
            joined -= shared.decode(found)
            for view, own in columns.items():
                codes[view][block, :n_shared] = found
                parts[view] = joined[:, own]
        for view, quantizer in specific.items():
            if quantizer is not None:
                codes[view][block, n_shared:] = quantizer.encode(parts[view], beam=beam)
    return codes


def quantizer_of(codebooks: Sequence[npt.NDArray[np.float32]]) -> ResidualKMeans | None:
    """Return the quantizer of residual levels, or None if there are no levels."""
    return ResidualKMeans.from_codebooks(codebooks) if codebooks else None
