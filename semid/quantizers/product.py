"""ProductKMeans: one k-means per slice of the columns, perhaps after a learnt rotation."""

from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh, svd
from tqdm import tqdm

from semid._arrays import Matrix
from semid._threads import one_blas_thread
from semid.errors import InvalidValueError
from semid.quantizers.checks import check_choice
from semid.quantizers.family import KMeansFamily
from semid.quantizers.learnt import Learnt, rotate, split_columns
from semid.quantizers.levels import absorb_level, fit_levels
from semid.quantizers.lloyd import run_lloyd
from semid.quantizers.starts import plus_plus_start

__all__ = ["ProductKMeans"]


@final
class ProductKMeans(KMeansFamily):
    """Write each embedding as one code per slice of its columns.

    Product quantization (Jegou et al. 2011): level l is a k-means on the l-th slice. Levels have no order, a search for
    the best codes is exact, and a fit is fast; the distortion is higher than that of `ResidualKMeans`, and items of one
    cluster share codes at every level.

    Parameters
    ----------
    n_levels : int, default=4
        Number of slices, at most the dim. Where it does not divide the dim, the first slices have one column more.
    codebook_size : int, sequence of int or "auto", default=256
        Number of centroids, of all levels or of each. "auto" as in `ResidualKMeans`.
    rotation : {None, "opq"}, default=None
        What embeddings are multiplied by before they are sliced. "opq" learns an orthonormal matrix that spreads the
        variance over the slices and lowers the distortion (Ge et al. 2013).
    seed : int, default=0
    max_iter : int, default=25
    init : {"progressive", "k-means++", "random"}, default="progressive"
    sample_size : int, optional
    progress : bool, default=False
        As in `ResidualKMeans`.

    Attributes
    ----------
    codebooks_ : tuple of ndarray of shape (codebook_size, dim), dtype float32
        One per level, rotated back and with zeros in the columns of other slices, so that decoding is their sum.
    rotation_ : ndarray of shape (dim, dim), dtype float32, or None
    counts_ : tuple of ndarray of shape (codebook_size,), dtype int64
        How many training rows stand behind each code.
    n_features_in_ : int
        Number of columns seen by `fit`, the dim.
    n_iter_ : int
        Most Lloyd steps that a level took; only after `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from semid import ProductKMeans
    >>> X = np.array([[0, 0], [0, 1], [4, 0], [4, 1]], dtype=np.float32)
    >>> quantizer = ProductKMeans(n_levels=2, codebook_size=2).fit(X)
    >>> len(np.unique(quantizer.encode(X), axis=0))
    4
    """

    def __init__(
        self,
        n_levels: int = 4,
        codebook_size: int | Sequence[int] | str = 256,
        *,
        rotation: str | None = None,
        seed: int = 0,
        max_iter: int = 25,
        init: str = "progressive",
        sample_size: int | None = None,
        progress: bool = False,
    ) -> None:
        self.n_levels = n_levels
        self.codebook_size = codebook_size
        self.rotation = rotation
        self.seed = seed
        self.max_iter = max_iter
        self.init = init
        self.sample_size = sample_size
        self.progress = progress

    @property
    def rotation_(self) -> npt.NDArray[np.float32] | None:
        """What embeddings are multiplied by, shape (dim, dim), dtype float32; None for nothing."""
        self._check_fitted()
        return self._learnt.rotation

    def _train(self, sample: npt.NDArray[np.float32], sizes: tuple[int, ...], rng: np.random.Generator) -> Learnt:
        check_choice(self.rotation, "rotation", ROTATIONS)
        if sample.shape[1] < self.n_levels:
            raise InvalidValueError(
                f"n_levels is too large: expected at most {sample.shape[1]}, the dim, got {self.n_levels}. Lower it; 1 "
                "feature(s) make one level."
            )
        columns = split_columns(sample.shape[1], self.n_levels)
        rotation = None
        if self.rotation == "opq":
            rotation = learn_rotation(sample, sizes, columns, rng=rng)
            sample = rotate(sample, rotation)
        fits = [
            fit_levels(np.array(sample[:, part]), (size,), init=self.init, max_iter=self.max_iter, rng=rng)
            for part, size in zip(
                columns, tqdm(sizes, desc="levels", disable=None if self.progress else True), strict=True
            )
        ]
        return Learnt(
            codebooks=tuple(fit.codebooks[0] for fit in fits),
            counts=tuple(fit.counts[0] for fit in fits),
            n_iter=max(fit.n_iter for fit in fits),
            rotation=rotation,
            columns=columns,
        )

    def _absorb(self, batch: npt.NDArray[np.float32], learnt: Learnt) -> Learnt:
        batch = rotate(batch, learnt.rotation)
        books, counts = [], []
        for part, book, count in zip(learnt.columns or (), learnt.codebooks, learnt.counts, strict=True):
            centroids, _, total = absorb_level(np.ascontiguousarray(batch[:, part]), book, count)
            books.append(centroids)
            counts.append(total)
        return learnt._replace(codebooks=tuple(books), counts=tuple(counts))


ROTATIONS = (None, "opq")
ROWS_PER_CODE = 64
ROUNDS = 12
FIRST_STEPS, NEXT_STEPS = 8, 2


def learn_rotation(
    x: Matrix, codebook_sizes: Sequence[int], columns: Sequence[slice], *, rng: np.random.Generator
) -> Matrix:
    """Return an orthonormal matrix after which product quantization leaves less distortion (Ge et al. 2013).

    It starts from the principal axes, dealt out so that the slices have about equal products of variances (section
    3.2, optimal for Gaussian data), then takes turns: codebooks for the rotation, and the rotation that brings the rows
    nearest to their decoded codes, an orthogonal Procrustes problem (section 3.1). At most 64 rows per code are used.

    Parameters
    ----------
    x : ndarray of shape (n_items, dim), dtype float32
    codebook_sizes : sequence of int
    columns : sequence of slice
        One per level.
    rng : numpy.random.Generator

    Returns
    -------
    rotation : ndarray of shape (dim, dim), dtype float32
        Embeddings times this are sliced.
    """
    n_rows = min(len(x), max(ROWS_PER_CODE * max(codebook_sizes), 2 * x.shape[1]))
    rows = x[rng.choice(len(x), n_rows, replace=False, shuffle=False)]
    rows = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    rotation = _spread_variance(rows, columns)
    books: list[Matrix] = []
    for turn in range(ROUNDS):
        rotated, decoded = rotate(rows, rotation), np.empty_like(rows)
        for level, part in enumerate(columns):
            piece = np.ascontiguousarray(rotated[:, part])
            if turn == 0:
                books.append(plus_plus_start(piece, codebook_sizes[level], rng))
            books[level], labels, _ = run_lloyd(piece, books[level], max_iter=NEXT_STEPS if turn else FIRST_STEPS)
            decoded[:, part] = books[level][labels]
        with one_blas_thread:
            left, _, right = svd(rows.T @ decoded)
            rotation = np.ascontiguousarray(left @ right, dtype=np.float32)
    return rotation


def _spread_variance(x: Matrix, columns: Sequence[slice]) -> Matrix:
    """Return the principal axes in an order that gives every slice about the same product of variances."""
    with one_blas_thread:
        variances, axes = eigh(x.T @ x)
    room = [part.stop - part.start for part in columns]
    logs = np.zeros(len(columns))
    chosen: list[list[int]] = [[] for _ in columns]
    for axis in range(len(variances) - 1, -1, -1):
        open_levels = [level for level in range(len(columns)) if len(chosen[level]) < room[level]]
        level = min(open_levels, key=lambda each: (logs[each], each))
        chosen[level].append(axis)
        # Relative to the least variance, so that logarithms are positive and a slice with fewer axes comes first.
        logs[level] += np.log(max(variances[axis], 1e-30)) - np.log(max(variances[0], 1e-30)) + 1e-9
    return np.ascontiguousarray(axes[:, [axis for axes_of in chosen for axis in axes_of]], dtype=np.float32)
