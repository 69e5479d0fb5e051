"""Several views of the same items: checked together, and brought to one scale."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid._arrays import CodeArray, Int64Array, Matrix
from semid.errors import InvalidTypeError, InvalidValueError
from semid.io.batches import open_embeddings
from semid.io.matrices import drop_pages, float_block

__all__ = [
    "Scaling",
    "check_same_codes",
    "check_view_names",
    "check_view_weights",
    "check_views",
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


def check_views(views: Sequence[str]) -> tuple[str, ...]:
    """Return the names of one or more different views, or say what is wrong with them."""
    if isinstance(views, str) or not isinstance(views, Iterable) or not all(isinstance(view, str) for view in views):
        raise InvalidTypeError(
            f"views have a wrong type: expected a sequence of names, got {views!r}. Pass a tuple of str."
        )
    if not views or len(set(views)) < len(views):
        raise InvalidValueError(
            f"views are wrong: expected one or more different names, got {tuple(views)}. Name each view once."
        )
    return tuple(views)


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


def check_view_names(X: Any, views: Sequence[str], *, name: str = "X") -> None:
    """Raise unless a mapping has exactly the entries `views`."""
    if not isinstance(X, Mapping):
        raise InvalidTypeError(
            f"{name} is not a mapping: expected one array for each of {', '.join(map(repr, views))}, got "
            f"{type(X).__name__}. Pass a dict."
        )
    missing = [view for view in views if view not in X]
    unknown = [view for view in X if view not in views]
    if missing or unknown:
        wrong = f"has no view {missing[0]!r}" if missing else f"has an unknown view {unknown[0]!r}"
        raise InvalidValueError(
            f"{name} {wrong}: expected {', '.join(map(repr, views))}, got {', '.join(map(repr, X))}. Correct the "
            "names, or set views=."
        )


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


def check_same_codes(codes: Mapping[str, CodeArray], n_shared: int) -> None:
    """Raise unless all views have the same rows of shared codes."""
    first, *others = codes
    for view in others:
        if len(codes[view]) != len(codes[first]):
            raise InvalidValueError(
                f"codes differ in their number of items: expected {len(codes[first])} as in {first!r}, got "
                f"{len(codes[view])} in {view!r}. Row i of every view must be item i."
            )
        differ = (codes[view][:, :n_shared] != codes[first][:, :n_shared]).any(axis=1)
        if differ.any():
            row = int(np.argmax(differ))
            raise InvalidValueError(
                f"shared codes differ between views: expected {codes[first][row, :n_shared].tolist()} as in {first!r}, "
                f"got {codes[view][row, :n_shared].tolist()} in {view!r}, row {row}. The first "
                f"{n_shared} levels belong to all views."
            )


def column_slices(dims: Mapping[str, int]) -> dict[str, slice]:
    """Return the columns of each view among those of the joined views."""
    ends = np.cumsum(list(dims.values())).tolist()
    return {view: slice(end - dim, end) for (view, dim), end in zip(dims.items(), ends, strict=True)}
