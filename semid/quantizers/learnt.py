"""What a fit keeps: codebooks of one view or of several, and the space that they stand in."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid._arrays import Int64Array, Matrix
from semid._threads import one_blas_thread
from semid.io.matrices import check_spread, float_block

__all__ = [
    "Learnt",
    "LearntViews",
    "Scaling",
    "column_slices",
    "fit_scaling",
    "full_space",
    "rotate",
    "split_columns",
    "standardize",
]


class Scaling(NamedTuple):
    """How a view is standardised: ``(x - mean) * factor``."""

    mean: Matrix
    """Shape (dim,), dtype float32."""
    factor: float
    """``sqrt(weight / total variance)``; of a constant view ``sqrt(weight)``."""


def fit_scaling(
    matrix: npt.NDArray[np.number[Any]], rows: Int64Array, *, view: str, weight: float
) -> tuple[Scaling, Matrix]:
    """Return how to standardise a view, and its given rows standardised."""
    sample = float_block(matrix, rows, name=f"view {view!r}")
    check_spread(sample, name=f"view {view!r}")
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample -= mean
    variance = float(np.einsum("nd,nd->n", sample, sample).mean(dtype=np.float64))
    scaling = Scaling(mean, float(np.sqrt(weight / variance)) if variance > 0 else float(np.sqrt(weight)))
    sample *= np.float32(scaling.factor)
    return scaling, sample


def standardize(
    matrix: npt.NDArray[np.number[Any]], rows: slice | Int64Array, scaling: Scaling, *, view: str | None = None
) -> Matrix:
    """Return some rows of embeddings, centred and scaled, in a new array; an InvalidValueError if one is not finite.

    Messages name the `view`, if there are several.
    """
    block = float_block(matrix, rows, name="X" if view is None else f"view {view!r}") - scaling.mean
    block *= np.float32(scaling.factor)
    return block


def column_slices(dims: Mapping[str, int]) -> dict[str, slice]:
    """Return the columns of each view among those of the joined views."""
    ends = np.cumsum(list(dims.values())).tolist()
    return {view: slice(end - dim, end) for (view, dim), end in zip(dims.items(), ends, strict=True)}


class Learnt(NamedTuple):
    """What a fit of levels gives."""

    codebooks: tuple[Matrix, ...]
    """Per level, shape (codebook_size, dim of the level), dtype float32."""
    counts: tuple[Int64Array, ...]
    """Per level, how many training rows stand behind each code; shape (codebook_size,)."""
    n_iter: int = 0
    """Most Lloyd steps that a level took."""
    rotation: Matrix | None = None
    """Of product quantizers: what embeddings are multiplied by first, shape (dim, dim); None for nothing."""
    columns: tuple[slice, ...] | None = None
    """Of product quantizers: the columns of each level; None where every level sees all."""


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


def split_columns(dim: int, n_levels: int) -> tuple[slice, ...]:
    """Return the columns of each level: as many for all, and one more for the first ``dim % n_levels``."""
    ends = np.cumsum([dim // n_levels + (level < dim % n_levels) for level in range(n_levels)]).tolist()
    return tuple(slice(first, last) for first, last in zip([0, *ends[:-1]], ends, strict=True))


def rotate(x: Matrix, rotation: Matrix | None) -> Matrix:
    """Return the rotated rows, or the rows themselves without a rotation."""
    if rotation is None:
        return x
    with one_blas_thread:
        return x @ rotation


def full_space(learnt: Learnt) -> tuple[Matrix, ...]:
    """Return codebooks of shape (codebook_size, dim), whose chosen centroids add up to the decoded embedding."""
    if learnt.columns is None:
        return learnt.codebooks
    books: Sequence[Matrix] = learnt.codebooks
    dim = learnt.columns[-1].stop
    wide = [np.zeros((len(book), dim), np.float32) for book in books]
    for book, columns, target in zip(books, learnt.columns, wide, strict=True):
        target[:, columns] = book
    back = None if learnt.rotation is None else np.ascontiguousarray(learnt.rotation.T)
    return tuple(rotate(book, back) for book in wide)
