"""ResidualKMeans: one k-means per level, each on what the levels before left over."""

from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt

from semid.errors import InvalidValueError
from semid.io.batches import check_embeddings
from semid.quantizers.family import KMeansFamily
from semid.quantizers.learnt import Learnt
from semid.quantizers.levels import absorb_levels, train_levels

__all__ = ["ResidualKMeans"]


@final
class ResidualKMeans(KMeansFamily):
    """Write each embedding as a sum of centroids, one per level, learnt by k-means.

    This is the residual quantization of TIGER (arXiv:2305.05065), section 3.1, with k-means in place of a network:
    the first level clusters the embeddings, each later one the residuals that the levels before it left; then the
    codebooks of all levels are refined together. The same seed gives the same codebooks and codes, bit for bit, on any
    number of threads; their number is that of BLAS (``OMP_NUM_THREADS``, ``threadpoolctl.threadpool_limits``).

    Parameters
    ----------
    n_levels : int, default=3
        Number of codes per item.
    codebook_size : int, sequence of int or "auto", default=256
        Number of centroids, of all levels or of each. "auto" takes the least power of two from 256 on that makes 128
        times as many IDs as there are items, halved until there are 32 items per code or 2 codes. That makes good
        clusters, but on fewer than a few hundred items fewer IDs than items: give a number there.
    seed : int, default=0
        Seed of the sample and of the starts.
    max_iter : int, default=25
        Most Lloyd steps per level, after the start; a level ends earlier when a step gains less than 0.01 %.
    init : {"progressive", "k-means++", "random"}, default="progressive"
        "progressive" starts along the strongest principal axes of the residuals, which uses the codes of later levels
        more evenly and so gives fewer collisions; "k-means++" starts in all dimensions and gives a distortion that is
        lower by 1 to 2 %; "random" starts from random rows.
    capacity : int, optional
        Balance: move each centroid to the mean of a cluster of at most so many training rows, at the cost of distances
        to all centroids for each row that its nearest code sends away. Codes are still those of the nearest centroids,
        so that `encode` fills them more evenly, but not within the capacity.
    sample_size : int, optional
        Train on at most so many rows, drawn without replacement. By default 512 per code of the largest codebook, but
        at least 131,072 and at most 262,144, and never below 32 per code.
    progress : bool, default=False
        Show a progress bar over the levels while fitting, on a terminal only.

    Attributes
    ----------
    codebooks_ : tuple of ndarray of shape (codebook_size, dim), dtype float32
        One per level. Where a level has fewer distinct residuals than codes, each of them is a centroid and the
        spare codes are zero vectors, which add nothing.
    counts_ : tuple of ndarray of shape (codebook_size,), dtype int64
        How many training rows stand behind each code; `partial_fit` weighs with them.
    n_features_in_ : int
        Number of columns seen by `fit`, the dim.
    n_iter_ : int
        Most Lloyd steps that a level took; only after `fit`.
    feature_names_in_ : ndarray of str
        Column names, if `fit` saw a data frame.

    Examples
    --------
    >>> import numpy as np
    >>> from semid import ResidualKMeans
    >>> X = np.array([[0, 0], [0, 1], [4, 0], [4, 1]], dtype=np.float32)
    >>> quantizer = ResidualKMeans(n_levels=2, codebook_size=2).fit(X)
    >>> codes = quantizer.encode(X)
    >>> len(np.unique(codes, axis=0))
    4
    >>> np.abs(quantizer.decode(codes) - X).max() < 1e-6
    np.True_
    """

    def __init__(
        self,
        n_levels: int = 3,
        codebook_size: int | Sequence[int] | str = 256,
        *,
        seed: int = 0,
        max_iter: int = 25,
        init: str = "progressive",
        capacity: int | None = None,
        sample_size: int | None = None,
        progress: bool = False,
    ) -> None:
        self.n_levels = n_levels
        self.codebook_size = codebook_size
        self.seed = seed
        self.max_iter = max_iter
        self.init = init
        self.capacity = capacity
        self.sample_size = sample_size
        self.progress = progress

    @classmethod
    def from_codebooks(cls, codebooks: Sequence[Any]) -> Self:
        """Return a quantizer with codebooks that were learnt elsewhere.

        Parameters
        ----------
        codebooks : sequence of array-like of shape (codebook_size, dim)
            One per level.

        Returns
        -------
        quantizer : ResidualKMeans
            Fitted.

        Raises
        ------
        InvalidValueError
            If there is no codebook, their dims differ, or a value is not finite.
        """
        if not len(codebooks):
            raise InvalidValueError("codebooks are empty: expected one array per level, got none. Pass at least one.")
        books: list[npt.NDArray[np.float32]] = []
        for level, codebook in enumerate(codebooks):
            dim = books[0].shape[1] if books else None
            books.append(np.array(check_embeddings(codebook, name=f"codebooks[{level}]", dim=dim)))
        sizes = tuple(len(book) for book in books)
        counts = tuple(np.zeros(size, np.int64) for size in sizes)
        return cls(len(books), sizes)._learn(Learnt(tuple(books), counts))

    def _train(self, sample: npt.NDArray[np.float32], sizes: tuple[int, ...], rng: np.random.Generator) -> Learnt:
        return train_levels(self, sample, sizes, rng)

    def _absorb(self, batch: npt.NDArray[np.float32], learnt: Learnt) -> Learnt:
        return absorb_levels(batch, learnt)
