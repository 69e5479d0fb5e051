"""Several views of the same items: checked together, and brought to one scale."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid._arrays import Int64Array, Matrix
from semid._checks import check_view_names
from semid.errors import InvalidTypeError, InvalidValueError
from semid.io.batches import open_embeddings
from semid.io.matrices import drop_pages, float_block

__all__ = [
    "Scaling",
    "check_view_weights",
    "column_slices",
    "fit_scaling",
    "open_views",
    "standardize_block",
]


class Scaling(NamedTuple):
    """How a view is standardised: ``(x - mean) * factor``."""

    mean: Matrix
    """Shape (dim,), dtype float32."""
    factor: float
    """``sqrt(weight / total variance)``; of a constant view ``sqrt(weight)``."""


def check_view_weights(view_weights: Mapping[str, float] | None, views: Sequence[str]) -> dict[str, float]:
    """Return one positive weight per view, 1 where none is given."""
    if not isinstance(view_weights, Mapping | None):
        raise InvalidTypeError(
            f"view_weights have a wrong type: expected a mapping from view to number, got {view_weights!r}. Pass a "
            "dict."
        )
    weights = {view: 1.0 for view in views} | dict(view_weights or {})
    for view, weight in weights.items():
        if view not in views:
            raise InvalidValueError(
                f"view_weights has an unknown view: expected {', '.join(map(repr, views))}, got {view!r}. Rename it."
            )
        if not isinstance(weight, Real):
            raise InvalidTypeError(
                f"view_weights[{view!r}] is not a number: expected a positive number, got {weight!r}. Pass a float."
            )
        if not (np.isfinite(weight) and weight > 0):
            raise InvalidValueError(
                f"view_weights[{view!r}] is out of range: expected a positive number, got {weight}. Leave out a view "
                "that should not count."
            )
    return {view: float(weight) for view, weight in weights.items()}


def open_views(
    X: Any,
    views: Sequence[str],
    *,
    dims: Mapping[str, int] | None = None,
    label: str = "",
    min_items: int = 1,
) -> dict[str, npt.NDArray[np.number[Any]]]:
    """Return the matrices of all views, unread, in the order of `views`.

    Parameters
    ----------
    X : mapping of str to array-like of shape (n_items, dim of the view)
        Whatever `semid.io.batches.open_embeddings` opens.
    views : sequence of str
    dims : mapping of str to int, optional
        Number of columns that is required of each view.
    label : str
        What messages say after the name of a view.
    min_items : int, default=1

    Raises
    ------
    InvalidValueError
        If a view is missing or unknown, has a wrong shape, or another number of rows than the first.
    InvalidTypeError
        If `X` is not a mapping, or a view does not hold real numbers.
    """
    check_view_names(X, views, name=f"X{label}")
    matrices = {
        view: open_embeddings(
            X[view], name=f"view {view!r}{label}", dim=None if dims is None else dims[view], min_items=min_items
        )
        for view in views
    }
    first, *others = views
    for view in others:
        if len(matrices[view]) != len(matrices[first]):
            raise InvalidValueError(
                f"views differ in their number of items{label.rstrip(',')}: expected {len(matrices[first])} as in "
                f"{first!r}, got {len(matrices[view])} in {view!r}. Row i of every view must be item i."
            )
    return matrices


def fit_scaling(
    matrix: npt.NDArray[np.number[Any]], rows: Int64Array, *, view: str, weight: float
) -> tuple[Scaling, Matrix]:
    """Return how to standardise a view, and its given rows standardised."""
    sample = float_block(matrix, rows, name=f"view {view!r}")
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample -= mean
    variance = float(np.einsum("nd,nd->n", sample, sample).mean(dtype=np.float64))
    scaling = Scaling(mean, float(np.sqrt(weight / variance)) if variance > 0 else float(np.sqrt(weight)))
    sample *= np.float32(scaling.factor)
    return scaling, sample


def standardize_block(matrix: npt.NDArray[np.number[Any]], rows: slice, scaling: Scaling, *, view: str) -> Matrix:
    """Return some rows of a view, standardised, in a new array."""
    block = float_block(matrix, rows, name=f"view {view!r}") - scaling.mean
    drop_pages(matrix)
    block *= np.float32(scaling.factor)
    return block


def column_slices(dims: Mapping[str, int]) -> dict[str, slice]:
    """Return the columns of each view among those of the joined views."""
    ends = np.cumsum(list(dims.values())).tolist()
    return {view: slice(end - dim, end) for (view, dim), end in zip(dims.items(), ends, strict=True)}
