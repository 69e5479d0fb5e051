"""What the k-means quantizers of one view share: input, search, streaming, saving, scikit-learn's conventions."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from semid._arrays import CodeArray, Matrix
from semid._checks import MOST_CANDIDATES, MOST_LEVELS, check_count
from semid.io.batches import is_stream, iter_batches, iter_blocks, open_embeddings, reservoir_sample
from semid.io.matrices import check_codes, check_spread, float_block
from semid.quantizers.base import QuantizerTransformer
from semid.quantizers.checks import (
    check_enough,
    check_init,
    is_auto,
    sample_limit,
    sample_rows,
    sizes_for,
    sizes_for_batches,
)
from semid.quantizers.columns import check_columns, keep_columns, read_columns
from semid.quantizers.learnt import Learnt, full_space
from semid.quantizers.refit import refit_levels
from semid.quantizers.search import build_tables, decode_codes, search_codes

__all__ = ["KMeansFamily"]

# partial_fit begins when there are so many rows per code: k-means++ draws from no more.
FIRST_ROWS_PER_CODE = 64


class KMeansFamily(QuantizerTransformer):
    """Base of `KMeans`, `ResidualKMeans` and `ProductKMeans`: they differ in how a sample becomes codebooks."""

    codebook_size: Any
    seed: int
    max_iter: int
    init: str
    sample_size: int | None
    progress: bool

    _pending: list[Matrix]
    """Batches of `partial_fit` that are too few to begin with."""

    @abstractmethod
    def _train(self, sample: Matrix, sizes: tuple[int, ...], rng: np.random.Generator) -> Learnt:
        """Learn the codebooks from a sample, which may be overwritten."""

    @abstractmethod
    def _absorb(self, batch: Matrix, learnt: Learnt) -> Learnt:
        """Return the codebooks after one more batch, which may be overwritten."""

    @property
    def codebooks(self) -> tuple[Matrix, ...]:
        """Centroids, one array of shape (codebook_size, dim) and dtype float32 per level."""
        self._check_fitted()
        return self.codebooks_

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        if self.__sklearn_is_fitted__():
            return tuple(len(book) for book in self.codebooks_)
        if is_auto(self.codebook_size):
            self._check_fitted()
        return sizes_for(self.codebook_size, self.n_levels, n_items=None)

    @property
    def dim(self) -> int:
        """Number of columns of the embeddings."""
        self._check_fitted()
        return int(self.n_features_in_)

    def fit(self, X: Any, y: None = None) -> Self:
        """Learn the codebooks.

        Parameters
        ----------
        X : array-like of shape (n_items, dim), path, or iterable of batches
            ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file: only the rows of the training sample are read and
            checked. Path of a ``.parquet`` file, with ``::column`` if it has several columns of lists, or iterable of
            arrays of shape (n_rows, dim): read once, in the memory of the sample.
        y : None
            Ignored.

        Returns
        -------
        self : the quantizer

        Raises
        ------
        InvalidValueError
            If there are fewer items than codes in a codebook, a value is not finite, or a parameter is out of range.
        InvalidTypeError
            If `X` does not hold real numbers, or a parameter has a wrong type.
        OptionalDependencyError
            If `X` is a parquet file and pyarrow is not installed.
        """
        rng = self._check_parameters()
        if is_stream(X):
            limit = sample_limit(sizes_for(self.codebook_size, self.n_levels, n_items=None), self.sample_size)
            sample, n_items = reservoir_sample(iter_batches(X), limit, rng)
            sizes = sizes_for(self.codebook_size, self.n_levels, n_items=n_items)
            check_enough(n_items, sizes)
        else:
            matrix = open_embeddings(X)
            sizes = sizes_for(self.codebook_size, self.n_levels, n_items=len(matrix))
            sample = float_block(matrix, sample_rows(len(matrix), sizes, sample_size=self.sample_size, rng=rng))
        columns = read_columns(X, sample)
        check_spread(sample)
        learnt = self._train(sample, sizes, rng)
        # Only now, so that a fit that is refused or interrupted leaves the quantizer as it was.
        self._learn(learnt)
        keep_columns(self, columns)
        self.n_iter_ = learnt.n_iter
        return self

    def partial_fit(self, X: Any, y: None = None) -> Self:
        """Learn from one more batch of a stream.

        The first rows are kept until there are 64 per code of the largest codebook, 16,384 at 256 codes; then the
        codebooks are those of a fit on them. From there on each batch moves every centroid to the mean of all rows
        that it has taken, level by level, and codes that stay idle move to the rows that are served worst. The same
        batches in the same order give the same codebooks. After `fit`, `partial_fit` goes on from its codebooks.

        Parameters
        ----------
        X : as in `fit`
            A parquet file or an iterable counts as one batch after the other.
        y : None
            Ignored.

        Returns
        -------
        self : the quantizer
            Fitted from the batch on that completes the first rows.

        Raises
        ------
        InvalidValueError
            If the dim differs from that of earlier batches, a value is not finite, a parameter is out of range, or
            ``codebook_size="auto"``, which needs the number of items.
        InvalidTypeError
            If `X` does not hold real numbers, or a parameter has a wrong type.
        """
        if is_stream(X):
            for batch in iter_batches(X):
                self.partial_fit(batch)
            return self
        rng = self._check_parameters()
        fitted = self.__sklearn_is_fitted__()
        sizes = self.codebook_sizes if fitted else sizes_for_batches(self.codebook_size, self.n_levels)
        batch = np.array(float_block(open_embeddings(X), slice(0, None)))
        pending = getattr(self, "_pending", [])
        columns = None if fitted or pending else read_columns(X, batch)
        if columns is None:
            check_columns(self, X, batch)
        if fitted:
            return self._learn(self._absorb(batch, self._learnt))
        pending = [*pending, batch]
        if sum(map(len, pending)) < FIRST_ROWS_PER_CODE * max(sizes):
            self._pending = pending
        else:
            sample = np.concatenate(pending)
            check_spread(sample)
            self._learn(self._train(sample, sizes, rng))
        if columns is not None:
            keep_columns(self, columns)
        return self

    def refit(self, X: Any, codes: Any) -> Self:
        """Move the centroids to where they serve given codes best; the codes themselves stay.

        `semid.resolve` gives items IDs that are not the nearest ones, and centroids that know of it leave less
        distortion: refit on the resolved codes, then resolve again. That is k-means under the condition that no two
        items share an ID, its two steps in turn.

        Parameters
        ----------
        X : array-like of shape (n_items, dim), path, or iterable of batches
            As in `encode`; read once.
        codes : array-like of shape (n_items, n_levels), any integer dtype

        Returns
        -------
        self : the quantizer
            `counts_` are those of `codes`. A code that no item has keeps its centroid.

        Raises
        ------
        InvalidValueError
            If the dim differs from that of the fit, codes are out of range or not as many as items, or a value is not
            finite.
        InvalidTypeError
            If `X` does not hold real numbers, or the codes are not integers.

        Examples
        --------
        >>> import numpy as np, semid
        >>> X = np.random.default_rng(0).standard_normal((500, 8), dtype=np.float32)
        >>> quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=32).fit(X)
        >>> unique = semid.resolve(quantizer, X)
        >>> again = semid.resolve(quantizer.refit(X, unique.codes), X)
        >>> bool(again.distortion_after < unique.distortion_after)
        True
        """
        self._check_fitted()
        codes = check_codes(codes, self.codebook_sizes)
        return self._learn(refit_levels(self._learnt, self._blocks(X), codes))

    def candidates(self, X: Any, *, count: int, beam: int) -> tuple[CodeArray, Matrix]:
        """Return the `count` best codes per embedding that a beam search of width `beam` finds, best first.

        Parameters
        ----------
        X : array-like of shape (n_items, dim), path, or iterable of batches
            As in `encode`.
        count : int
            Rows of codes wanted per item. The search finds at most ``(beam + beam // 2) * codebook_sizes[-1]``.
        beam : int
            Prefixes kept after each level, ``beam + beam // 2`` before the last one. The result is exact if it is at
            least the product of all codebook sizes but the last; that of `KMeans` and `ProductKMeans` always is.

        Returns
        -------
        codes : ndarray of shape (n_items, count, n_levels), unsigned integer dtype
            0 where the search finds fewer than `count`.
        cost : ndarray of shape (n_items, count), dtype float32
            Squared distance between embedding and decoded codes; ``inf`` where the search finds fewer than `count`.
        """
        self._check_fitted()
        count, beam = check_count(count, "count", most=MOST_CANDIDATES), check_count(beam, "beam", most=MOST_CANDIDATES)
        if is_stream(X):
            found = [self.candidates(batch, count=count, beam=beam) for batch in iter_batches(X)]
            return np.concatenate([codes for codes, _ in found]), np.concatenate([cost for _, cost in found])
        matrix = open_embeddings(X)
        check_columns(self, X, matrix)
        return search_codes(matrix, self._tables, beam=beam, count=count)

    def decode(self, codes: Any) -> Matrix:
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
        self._check_fitted()
        return decode_codes(check_codes(codes, self.codebook_sizes), self.codebooks_)

    def _to_save(self) -> tuple[dict[str, Any], Learnt, None]:
        self._check_fitted()
        # What was learnt, whatever `set_params` prepared for the next fit. KMeans has one level and no such parameter.
        params, sizes = self.get_params(), list(self.codebook_sizes)
        several = "n_levels" in params
        learnt_params = {"n_levels": len(sizes), "codebook_size": sizes} if several else {"codebook_size": sizes[0]}
        return params | learnt_params, self._learnt, None

    def _from_saved(self, learnt: Learnt, history: Any) -> Self:
        return self._learn(learnt)

    def _blocks(self, X: Any) -> Iterator[Matrix]:
        """Yield embeddings block by block, checked."""
        for block in iter_blocks(X):
            check_columns(self, X, block)
            yield block

    def _learn(self, learnt: Learnt) -> Self:
        codebooks = full_space(learnt)
        tables = build_tables(learnt.codebooks, rotation=learnt.rotation, columns=learnt.columns)
        self._learnt, self._tables, self._pending = learnt, tables, []
        self.codebooks_, self.counts_, self.n_features_in_ = codebooks, learnt.counts, codebooks[0].shape[1]
        return self

    def _check_parameters(self) -> np.random.Generator:
        check_count(self.n_levels, "n_levels", most=MOST_LEVELS)
        sizes_for(self.codebook_size, self.n_levels, n_items=None)
        check_init(self.init)
        check_count(self.max_iter, "max_iter")
        if self.sample_size is not None:
            check_count(self.sample_size, "sample_size")
        return np.random.default_rng(check_count(self.seed, "seed", least=0))

    def _check_fitted(self) -> None:
        n_pending = sum(map(len, getattr(self, "_pending", [])))
        if n_pending and not self.__sklearn_is_fitted__():
            needed = FIRST_ROWS_PER_CODE * max(sizes_for_batches(self.codebook_size, self.n_levels))
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet: expected {needed} rows from partial_fit, got "
                f"{n_pending}. Give more batches, or call fit."
            )
        check_is_fitted(self)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "codebooks_")
