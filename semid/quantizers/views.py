"""Several views of the same items: checked together, and brought to one scale."""

import os
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import Matrix
from semid._checks import check_view_names
from semid.errors import InvalidTypeError, InvalidValueError
from semid.io.batches import is_stream, iter_blocks, open_embeddings, reservoir_sample
from semid.io.matrices import float_block
from semid.quantizers.learnt import column_slices

__all__ = ["are_batches", "check_view_weights", "iter_view_batches", "open_views", "sample_view_batches"]


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


def are_batches(X: Any) -> bool:
    """Return whether views come in batches: a mapping with a parquet file or iterable, or an iterable of mappings."""
    if isinstance(X, Mapping):
        return any(is_stream(part) for part in X.values())
    if isinstance(X, str | bytes | os.PathLike) or hasattr(X, "__array__") or hasattr(X, "shape"):
        return False
    if isinstance(X, Sequence):
        return bool(len(X)) and isinstance(X[0], Mapping)
    return hasattr(X, "__iter__")


def iter_view_batches(
    X: Any, views: Sequence[str], *, dims: Mapping[str, int] | None = None
) -> Iterator[dict[str, Matrix]]:
    """Yield the batches that have rows, each a mapping from view to a finite float32 matrix in C order.

    Parameters
    ----------
    X : mapping of str to stream or array-like, or iterable of mappings of str to array-like
        Streams are those of `semid.io.batches.is_stream`. Those of one mapping may come in batches of different
        lengths: row i of every view is item i.
    views : sequence of str
    dims : mapping of str to int, optional
        Number of columns that is required of each view.

    Raises
    ------
    InvalidValueError
        If a view is missing or unknown, views differ in their number of rows, batches in their dim, a value is not
        finite, or there is no row at all; the message names the view and the batch.
    """
    if isinstance(X, Mapping):
        check_view_names(X, views, name="X")
        yield from _read_in_step({view: X[view] for view in views}, dims)
        return
    n_items = 0
    for number, batch in enumerate(X):
        matrices = open_views(batch, views, dims=dims, label=f", batch {number},", min_items=0)
        dims = {view: matrix.shape[1] for view, matrix in matrices.items()}
        n_rows = len(matrices[views[0]])
        if n_rows:
            n_items += n_rows
            yield {
                view: float_block(matrix, slice(0, None), name=f"view {view!r}, batch {number},")
                for view, matrix in matrices.items()
            }
    if not n_items:
        raise InvalidValueError(
            "X has too few items: expected at least 1, got n_samples=0 in all batches. An iterator can be read once; "
            "give a list, or an object that starts again."
        )


def sample_view_batches(
    X: Any, views: Sequence[str], size: int, rng: np.random.Generator
) -> tuple[dict[str, Matrix], int]:
    """Draw rows of batches without replacement, the same of every view, in one pass and in the memory of the sample.

    Parameters
    ----------
    X, views
        As in `iter_view_batches`.
    size : int
        Most rows.
    rng : numpy.random.Generator

    Returns
    -------
    sample : dict of str to ndarray of shape (min(size, n_items), dim of the view), dtype float32
    n_items : int
        Rows of all batches.
    """
    dims: dict[str, int] = {}

    def joined() -> Iterator[Matrix]:
        for batch in iter_view_batches(X, views):
            dims.update({view: part.shape[1] for view, part in batch.items()})
            yield np.concatenate(list(batch.values()), axis=1)

    sample, n_items = reservoir_sample(joined(), size, rng)
    return {view: sample[:, own] for view, own in column_slices(dims).items()}, n_items


def _read_in_step(X: Mapping[str, Any], dims: Mapping[str, int] | None) -> Iterator[dict[str, Matrix]]:
    blocks = {
        view: iter_blocks(part, name=f"view {view!r}", dim=None if dims is None else dims[view])
        for view, part in X.items()
    }
    rest = {view: np.empty((0, 0), np.float32) for view in blocks}
    n_items = 0
    while True:
        for view, source in blocks.items():
            if not len(rest[view]):
                rest[view] = next(source, rest[view])
        n_rows = min(map(len, rest.values()))
        if not n_rows:
            break
        yield {view: part[:n_rows] for view, part in rest.items()}
        rest, n_items = {view: part[n_rows:] for view, part in rest.items()}, n_items + n_rows
    counts = {view: n_items + len(rest[view]) + sum(map(len, source)) for view, source in blocks.items()}
    first, *others = counts
    for view in others:
        if counts[view] != counts[first]:
            raise InvalidValueError(
                f"views differ in their number of items: expected {counts[first]} as in {first!r}, got {counts[view]} "
                f"in {view!r}. Row i of every view must be item i."
            )
