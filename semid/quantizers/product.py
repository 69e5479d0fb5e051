"""ProductKMeans: one k-means per slice of the columns, perhaps after a learnt rotation."""

from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from semid.errors import InvalidValueError
from semid.quantizers.checks import check_choice
from semid.quantizers.family import KMeansFamily
from semid.quantizers.product_space import rotate, split_columns
from semid.quantizers.rotation import ROTATIONS, learn_rotation
from semid.quantizers.streaming import absorb_level
from semid.quantizers.training import Learnt, fit_levels

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
