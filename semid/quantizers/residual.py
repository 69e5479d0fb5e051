"""ResidualKMeans: one k-means per level, each on what the levels before left over."""

import os
from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from semid.errors import InvalidValueError
from semid.io.arrays import CodeArray, check_codes, check_embeddings, float_block, open_embeddings
from semid.quantizers.base import Quantizer
from semid.quantizers.checks import check_codebook_sizes, check_count, check_init, check_seed
from semid.quantizers.saving import read_residual, write_residual
from semid.quantizers.search import build_tables, decode_codes, search_codes
from semid.quantizers.training import fit_codebooks, sample_rows

__all__ = ["ResidualKMeans"]


@final
class ResidualKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, Quantizer):  # type: ignore[misc]
    """Write each embedding as a sum of centroids, one per level, learnt by k-means.

    This is the residual quantization of TIGER (arXiv:2305.05065), section 3.1, with k-means in place of a network:
    the first level clusters the embeddings, each later one the residuals that the levels before it left. The same
    seed gives the same codebooks and codes, bit for bit, on any number of threads; their number is that of BLAS
    (``OMP_NUM_THREADS``, ``threadpoolctl.threadpool_limits``).

    Parameters
    ----------
    n_levels : int, default=3
        Number of codes per item.
    codebook_size : int or sequence of int, default=256
        Number of centroids, of all levels or of each.
    seed : int, default=0
        Seed of the sample and of the starts.
    max_iter : int, default=25
        Most Lloyd steps per level, after the start; a level ends earlier when a step gains less than 0.01 %.
    init : {"progressive", "k-means++"}, default="progressive"
        "progressive" starts along the strongest principal axes of the residuals, which uses the codes of later levels
        more evenly and so gives fewer collisions; "k-means++" starts in all dimensions and gives a distortion that is
        lower by 1 to 2 %.
    sample_size : int, optional
        Train on at most so many rows, drawn without replacement. By default 256 per code of the largest codebook, but
        at least 65,536 and at most 262,144, and never below 32 per code.
    progress : bool, default=False
        Show a progress bar over the levels while fitting, on a terminal only.

    Attributes
    ----------
    codebooks_ : tuple of ndarray of shape (codebook_size, dim), dtype float32
        One per level. Where a level has fewer distinct residuals than codes, each of them is a centroid and the
        spare codes are zero vectors, which add nothing.
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
        codebook_size: int | Sequence[int] = 256,
        *,
        seed: int = 0,
        max_iter: int = 25,
        init: str = "progressive",
        sample_size: int | None = None,
        progress: bool = False,
    ) -> None:
        self.n_levels = n_levels
        self.codebook_size = codebook_size
        self.seed = seed
        self.max_iter = max_iter
        self.init = init
        self.sample_size = sample_size
        self.progress = progress

    @property
    def codebooks(self) -> tuple[npt.NDArray[np.float32], ...]:
        """Centroids, one array of shape (codebook_size, dim) and dtype float32 per level."""
        check_is_fitted(self)
        return self.codebooks_

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        return check_codebook_sizes(self.codebook_size, self.n_levels)

    @property
    def dim(self) -> int:
        """Number of columns of the embeddings."""
        check_is_fitted(self)
        return int(self.n_features_in_)

    def fit(self, X: Any, y: None = None) -> Self:
        """Learn the codebooks.

        Parameters
        ----------
        X : ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file, or array-like of shape (n_items, dim)
            Only the rows of the training sample are read and checked.
        y : None
            Ignored.

        Returns
        -------
        self : ResidualKMeans

        Raises
        ------
        InvalidValueError
            If there are fewer items than codes in a codebook, a value is not finite, or a parameter is out of range.
        InvalidTypeError
            If `X` does not hold real numbers, or a parameter has a wrong type.
        """
        check_count(self.n_levels, "n_levels")
        sizes, rng = self.codebook_sizes, np.random.default_rng(check_seed(self.seed))
        init, max_iter = check_init(self.init), check_count(self.max_iter, "max_iter")
        if self.sample_size is not None:
            check_count(self.sample_size, "sample_size")
        matrix = open_embeddings(X)
        rows = sample_rows(len(matrix), sizes, sample_size=self.sample_size, rng=rng)
        sample = float_block(matrix, rows)
        self._check_features(X, matrix, reset=True)
        codebooks, self.n_iter_ = fit_codebooks(
            sample, sizes, init=init, max_iter=max_iter, rng=rng, progress=self.progress
        )
        return self._learn(codebooks)

    def encode(self, X: Any, *, beam: int = 1) -> CodeArray:
        """Return the codes of embeddings.

        Parameters
        ----------
        X : ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file, or array-like of shape (n_items, dim)
            Read by blocks.
        beam : int, default=1
            Prefixes kept while searching. 1 takes the nearest centroid level by level; more finds nearer codes.

        Returns
        -------
        codes : ndarray of shape (n_items, n_levels), unsigned integer dtype
            Of two codes that are equally near, the lower one.

        Raises
        ------
        InvalidValueError
            If the dim differs from that of the fit, or a value is not finite.
        """
        codes, _ = self.candidates(X, count=1, beam=beam)
        return codes[:, 0]

    def candidates(self, X: Any, *, count: int, beam: int) -> tuple[CodeArray, npt.NDArray[np.float32]]:
        """Return the `count` best codes per embedding that a beam search of width `beam` finds, best first.

        Parameters
        ----------
        X : ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file, or array-like of shape (n_items, dim)
        count : int
            Rows of codes wanted per item. The search finds at most ``beam * codebook_sizes[-1]``.
        beam : int
            Prefixes kept after each level but the last. The result is exact if it is at least the product of all
            codebook sizes but the last.

        Returns
        -------
        codes : ndarray of shape (n_items, count, n_levels), unsigned integer dtype
            0 where the search finds fewer than `count`.
        cost : ndarray of shape (n_items, count), dtype float32
            Squared distance between embedding and decoded codes; ``inf`` where the search finds fewer than `count`.
        """
        check_is_fitted(self)
        count, beam = check_count(count, "count"), check_count(beam, "beam")
        matrix = open_embeddings(X)
        self._check_features(X, matrix, reset=False)
        return search_codes(matrix, self._tables, beam=beam, count=count)

    def decode(self, codes: Any) -> npt.NDArray[np.float32]:
        """Return the embeddings that codes stand for.

        Parameters
        ----------
        codes : array-like of shape (n_items, n_levels), any integer dtype

        Returns
        -------
        decoded : ndarray of shape (n_items, dim), dtype float32
            The sum of the chosen centroids.

        Raises
        ------
        InvalidValueError
            If the shape is wrong or a code lies outside its codebook.
        InvalidTypeError
            If the codes are not integers.
        """
        check_is_fitted(self)
        return decode_codes(check_codes(codes, self.codebook_sizes), self.codebooks_)

    def transform(self, X: Any) -> CodeArray:
        """Return the codes of embeddings, as `encode` does with one beam."""
        return self.encode(X)

    def inverse_transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Return the embeddings that codes stand for, as `decode` does."""
        return self.decode(X)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the codebooks (safetensors), the parameters (config.json) and a README.md to a folder."""
        check_is_fitted(self)
        params = self.get_params() | {"codebook_size": list(self.codebook_sizes)}
        write_residual(folder, params=params, codebooks=self.codebooks_)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *, mmap: bool = False) -> Self:
        """Load what `save_pretrained` wrote.

        Parameters
        ----------
        folder : path-like
        mmap : bool, default=False
            Map the codebooks instead of reading them.

        Raises
        ------
        FormatError
            If a file is missing or damaged, or the folder holds something else.
        """
        params, codebooks = read_residual(folder, mmap=mmap)
        return cls(**params)._learn(codebooks)

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
        return cls(len(books), tuple(len(book) for book in books))._learn(books)

    def _learn(self, codebooks: Sequence[npt.NDArray[np.float32]]) -> Self:
        self.codebooks_ = tuple(codebooks)
        self.n_features_in_ = self.codebooks_[0].shape[1]
        self._tables = build_tables(self.codebooks_)
        return self

    def _check_features(self, X: Any, matrix: npt.NDArray[Any], *, reset: bool) -> None:
        """Keep or compare the number and, of a data frame, the names of the columns."""
        try:
            validate_data(self, X if hasattr(X, "columns") else matrix, reset=reset, skip_check_array=True)
        except ValueError as error:
            raise InvalidValueError(f"{str(error).strip()} Use the embedding model of the fit.") from error

    @property
    def _n_features_out(self) -> int:
        return self.n_levels

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # codes are integers whatever the dtype of the embeddings
        return tags
