"""KMeans: one code per item, that of the nearest centroid."""

from typing import final

import numpy as np
import numpy.typing as npt

from semid.quantizers.family import KMeansFamily
from semid.quantizers.learnt import Learnt
from semid.quantizers.levels import absorb_levels, train_levels

__all__ = ["KMeans"]


@final
class KMeans(KMeansFamily):
    """Write each embedding as its nearest centroid.

    The verbs and codes are those of the other quantizers, with one level; `ResidualKMeans` adds levels.

    Parameters
    ----------
    codebook_size : int or "auto", default=256
        Number of centroids. "auto" as in `ResidualKMeans`.
    seed : int, default=0
    max_iter : int, default=25
    init : {"progressive", "k-means++", "random"}, default="progressive"
    capacity : int, optional
    sample_size : int, optional
    progress : bool, default=False
        As in `ResidualKMeans`.

    Attributes
    ----------
    codebooks_ : tuple of one ndarray of shape (codebook_size, dim), dtype float32
    counts_ : tuple of one ndarray of shape (codebook_size,), dtype int64
        How many training rows stand behind each code.
    n_features_in_ : int
        Number of columns seen by `fit`, the dim.
    n_iter_ : int
        Lloyd steps taken; only after `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from semid import KMeans
    >>> X = np.array([[0, 0], [0, 1], [4, 0], [4, 1]], dtype=np.float32)
    >>> codes = KMeans(codebook_size=2).fit(X).encode(X)
    >>> codes.shape, bool(codes[0] == codes[1]), bool(codes[0] == codes[2])
    ((4, 1), True, False)
    """

    n_levels = 1

    def __init__(
        self,
        codebook_size: int | str = 256,
        *,
        seed: int = 0,
        max_iter: int = 25,
        init: str = "progressive",
        capacity: int | None = None,
        sample_size: int | None = None,
        progress: bool = False,
    ) -> None:
        self.codebook_size = codebook_size
        self.seed = seed
        self.max_iter = max_iter
        self.init = init
        self.capacity = capacity
        self.sample_size = sample_size
        self.progress = progress

    def _train(self, sample: npt.NDArray[np.float32], sizes: tuple[int, ...], rng: np.random.Generator) -> Learnt:
        return train_levels(self, sample, sizes, rng)

    def _absorb(self, batch: npt.NDArray[np.float32], learnt: Learnt) -> Learnt:
        return absorb_levels(batch, learnt)
