"""SharedSpecificKMeans: codes that all views of an item share, then codes of each view's own."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from semid._arrays import CodeArray, Int64Array, Matrix
from semid._checks import MOST_CANDIDATES, MOST_LEVELS, check_count, check_shared_codes, check_view_names, check_views
from semid.io.matrices import check_codes, drop_pages, float_block
from semid.quantizers.base import MultiViewQuantizer
from semid.quantizers.checks import (
    check_enough,
    check_init,
    check_unchanged,
    is_auto,
    sample_limit,
    sample_rows,
    sizes_for,
    sizes_for_batches,
)
from semid.quantizers.columns import check_view_columns, checked_batches, read_view_columns
from semid.quantizers.family import FIRST_ROWS_PER_CODE
from semid.quantizers.learnt import LearntViews, standardize
from semid.quantizers.refit import refit_views
from semid.quantizers.residual import ResidualKMeans
from semid.quantizers.saving import SavedQuantizer
from semid.quantizers.search import decode_codes
from semid.quantizers.shared_levels import absorb_views, encode_shared_specific, fit_views, quantizer_of
from semid.quantizers.views import are_batches, check_view_weights, iter_view_batches, open_views, sample_view_batches

__all__ = ["SharedSpecificKMeans"]

Matrices = Mapping[str, npt.NDArray[np.number[Any]]]
ViewsOrBatches = Mapping[str, Any] | Iterable[Mapping[str, Any]]


@final
class SharedSpecificKMeans(BaseEstimator, SavedQuantizer, MultiViewQuantizer):  # type: ignore[misc]
    """Write each item as shared codes for all its views, then specific codes for each view.

    So GenSAR (arXiv:2504.05730) gives an item one semantic ID for search and one for recommendation, which begin
    with the same codes. There a network is trained; here the shared levels are a residual k-means on the joined
    views, and the specific levels of a view one on its part of what the shared levels left over.

    `fit` centres each view and scales it to a total variance of 1, times its weight, so that no view dominates by
    its units or its number of dimensions. All codebooks live in that standardised space; `decode` leaves it.

    Parameters
    ----------
    n_shared : int, default=1
        Levels whose codes are equal over views; may be 0.
    n_specific : int, default=2
        Levels of each view's own; may be 0, but not both.
    codebook_size : int, sequence of int or "auto", default=256
        Number of centroids, of all levels or of each of the ``n_shared + n_specific`` levels; "auto" as in
        `ResidualKMeans`.
    views : sequence of str, default=("semantic", "collaborative")
        Names of the views, one or more.
    view_weights : mapping of str to float, optional
        Factor of each view's squared distances in the shared levels; 1 where not given.
    seed : int, default=0
    max_iter : int, default=25
    init : {"progressive", "k-means++", "random"}, default="progressive"
    sample_size : int, optional
    progress : bool, default=False
        As in `ResidualKMeans`.

    Attributes
    ----------
    shared_quantizer_ : ResidualKMeans or None
        Of the joined standardised views, in the order of `views`; None without shared levels.
    specific_quantizers_ : dict of str to ResidualKMeans or None
        Per view, of what its shared levels left over; None without specific levels.
    scaling_ : dict of str to Scaling
        Per view the mean, of shape (dim,), and the factor that standardise it.
    shared_counts_ : tuple of ndarray of shape (codebook_size,), dtype int64
        Per shared level, how many training rows stand behind each code; `partial_fit` weighs with them.
    specific_counts_ : dict of str to tuple of ndarray of shape (codebook_size,), dtype int64
        The same per view and specific level.
    feature_names_in_ : dict of str to tuple of str
        Column names of the views that were data frames in the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from semid import SharedSpecificKMeans
    >>> rng = np.random.default_rng(0)
    >>> X = {"semantic": rng.normal(size=(50, 8)), "collaborative": rng.normal(size=(50, 3))}
    >>> codes = SharedSpecificKMeans(n_shared=1, n_specific=2, codebook_size=4).fit(X).encode(X)
    >>> codes["semantic"].shape, bool((codes["semantic"][:, 0] == codes["collaborative"][:, 0]).all())
    ((50, 3), True)
    """

    feature_names_in_: dict[str, tuple[str, ...]]
    _fitted_shape: dict[str, Any]
    _pending: list[dict[str, Matrix]]
    """Batches of `partial_fit` that are too few to begin with."""

    def __init__(
        self,
        n_shared: int = 1,
        n_specific: int = 2,
        codebook_size: int | Sequence[int] | str = 256,
        *,
        views: Sequence[str] = ("semantic", "collaborative"),
        view_weights: Mapping[str, float] | None = None,
        seed: int = 0,
        max_iter: int = 25,
        init: str = "progressive",
        sample_size: int | None = None,
        progress: bool = False,
    ) -> None:
        self.n_shared = n_shared
        self.n_specific = n_specific
        self.codebook_size = codebook_size
        self.views = views
        self.view_weights = view_weights
        self.seed = seed
        self.max_iter = max_iter
        self.init = init
        self.sample_size = sample_size
        self.progress = progress

    @property
    def codebooks(self) -> dict[str, tuple[Matrix, ...]]:
        """Per view, one array of shape (codebook_size, dim of the view) and dtype float32 per level.

        In the standardised space. Of a shared level it is the view's slice of the joined centroids.
        """
        self._check_fitted()
        books = {}
        for view, columns in self._learnt.columns.items():
            shared = (np.ascontiguousarray(book[:, columns]) for book in self._learnt.shared.codebooks)
            books[view] = (*shared, *self._learnt.specific[view].codebooks)
        return books

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level, shared levels first; the same for every view."""
        if self.__sklearn_is_fitted__():
            books = (*self._learnt.shared.codebooks, *next(iter(self._learnt.specific.values())).codebooks)
            return tuple(map(len, books))
        if is_auto(self.codebook_size):
            self._check_fitted()
        return sizes_for(self.codebook_size, self.n_levels, n_items=None)

    @property
    def shared_quantizer(self) -> ResidualKMeans | None:
        """The quantizer of the joined standardised views, in the order of `views`; None without shared levels."""
        self._check_fitted()
        return self.shared_quantizer_

    @property
    def specific_quantizers(self) -> dict[str, ResidualKMeans | None]:
        """Per view the quantizer of its standardised residual after the shared levels; None without specific levels."""
        self._check_fitted()
        return self.specific_quantizers_

    def fit(self, X: ViewsOrBatches, y: None = None) -> Self:
        """Learn the scaling of each view, the shared and the specific codebooks.

        Parameters
        ----------
        X : mapping of str to array-like of shape (n_items, dim of the view), or iterable of such mappings
            One entry per view: ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file, of which only the rows of
            the training sample are read and checked. Path of a ``.parquet`` file, with ``::column`` if it has several
            columns of lists, or iterable of arrays: read once, in the memory of the sample, and so is an iterable of
            mappings. Row i of every view is item i.
        y : None
            Ignored.

        Returns
        -------
        self : SharedSpecificKMeans

        Raises
        ------
        InvalidValueError
            If a view is missing or unknown, views differ in their number of rows, there are fewer items than codes in
            a codebook, a value is not finite, or a parameter is out of range.
        InvalidTypeError
            If a view does not hold real numbers, or a parameter has a wrong type.
        OptionalDependencyError
            If a view is a parquet file and pyarrow is not installed.
        """
        rng = self._check_parameters()
        matrices: Matrices
        if are_batches(X):
            limit = sample_limit(sizes_for(self.codebook_size, self.n_levels, n_items=None), self.sample_size)
            matrices, n_items = sample_view_batches(X, self.views, limit, rng)
            sizes = sizes_for(self.codebook_size, self.n_levels, n_items=n_items)
            check_enough(n_items, sizes)
            rows = np.arange(min(limit, n_items))
        else:
            matrices = open_views(X, self.views)
            n_items = len(next(iter(matrices.values())))
            sizes = sizes_for(self.codebook_size, self.n_levels, n_items=n_items)
            rows = sample_rows(n_items, sizes, sample_size=self.sample_size, rng=rng)
        return self._learn(self._train(matrices, rows, sizes, rng), read_view_columns(X))

    def partial_fit(self, X: ViewsOrBatches, y: None = None) -> Self:
        """Learn from one more batch of a stream.

        The first rows are kept until there are 64 per code of the largest codebook, 16,384 at 256 codes; then scaling
        and codebooks are those of a fit on them. From there on the scaling stays, and each batch moves every centroid
        to the mean of all rows that it has taken, level by level; codes that stay idle move to the rows that are served
        worst. The same batches in the same order give the same codebooks. After `fit` or a load, `partial_fit` goes on
        from what was learnt.

        Parameters
        ----------
        X : as in `fit`
            A mapping with a parquet file or an iterable, and an iterable of mappings, count as one batch after the
            other.
        y : None
            Ignored.

        Returns
        -------
        self : SharedSpecificKMeans
            Fitted from the batch on that completes the first rows.

        Raises
        ------
        InvalidValueError
            If a view is missing or unknown, a dim differs from that of earlier batches, views differ in their number of
            rows, a value is not finite, a parameter is out of range, or ``codebook_size="auto"``, which needs the
            number of items.
        InvalidTypeError
            If a view does not hold real numbers, or a parameter has a wrong type.
        """
        if are_batches(X):
            X = checked_batches(X, getattr(self, "feature_names_in_", {}))
            for batch in iter_view_batches(X, check_views(self.views)):
                self.partial_fit(batch)
            return self
        rng = self._check_parameters()
        if self.__sklearn_is_fitted__():
            return self._learn(absorb_views(self.standardize(X), self._learnt), self.feature_names_in_)
        sizes = sizes_for_batches(self.codebook_size, self.n_levels)
        pending = getattr(self, "_pending", [])
        names, dims = read_view_columns(X), None
        if pending:
            check_unchanged({"views": check_views(self.views)}, {"views": tuple(pending[0])})
            names, dims = self.feature_names_in_, {view: part.shape[1] for view, part in pending[0].items()}
        batch = {
            view: np.array(float_block(matrix, slice(0, None), name=f"view {view!r}"))
            for view, matrix in open_views(X, self.views, dims=dims).items()
        }
        check_view_columns(X, names)
        pending = [*pending, batch]
        n_rows = _count_rows(pending)
        if n_rows < FIRST_ROWS_PER_CODE * max(sizes):
            self._pending, self.feature_names_in_ = pending, names
            return self
        joined = {view: np.concatenate([each[view] for each in pending]) for view in batch}
        return self._learn(self._train(joined, np.arange(n_rows), sizes, rng), names)

    def refit(self, X: ViewsOrBatches, codes: Mapping[str, Any]) -> Self:
        """Move the centroids to where they serve given codes best; the codes themselves stay.

        For the resolved codes of `semid.resolve`, as `ResidualKMeans.refit` says. The scaling stays. The squared
        distances of each view, shared and specific levels together, are least for the codes.

        Parameters
        ----------
        X : as in `encode`
            Read once.
        codes : mapping of str to array-like of shape (n_items, n_shared + n_specific), any integer dtype
            As in `decode`.

        Returns
        -------
        self : SharedSpecificKMeans

        Raises
        ------
        InvalidValueError
            If a view is missing or unknown, codes are out of range, not as many as items, or differ between views in
            the shared levels, or a value is not finite.
        """
        checked = self._check_codes(codes)
        return self._learn(refit_views(self._learnt, self._joined_blocks(X), checked), self.feature_names_in_)

    def standardize(self, X: Any) -> dict[str, Matrix]:
        """Return each view centred and scaled as the fit found it, shape (n_items, dim of the view), dtype float32."""
        return self._parts(self._open(X), slice(0, None))

    def encode(self, X: ViewsOrBatches, *, beam: int = 1) -> dict[str, CodeArray]:
        """Return the codes of each view.

        Parameters
        ----------
        X : mapping of str to array-like of shape (n_items, dim of the view), or iterable of such mappings
            As in `fit`; read by blocks, and a memory-mapped file leaves memory again.
        beam : int, default=1
            Prefixes kept while searching, first over the shared and then over the specific levels.

        Returns
        -------
        codes : dict of str to ndarray of shape (n_items, n_shared + n_specific), unsigned integer dtype
            The first `n_shared` columns are equal over views.

        Raises
        ------
        InvalidValueError
            If a view is missing or unknown, views differ in their number of rows, a dim differs from that of the fit,
            or a value is not finite; the message names the view.
        """
        self._check_fitted()
        check_count(beam, "beam", most=MOST_CANDIDATES)
        if are_batches(X):
            batches = iter_view_batches(checked_batches(X, self.feature_names_in_), self.views, dims=self._learnt.dims)
            found = [self.encode(batch, beam=beam) for batch in batches]
            return {view: np.concatenate([codes[view] for codes in found]) for view in self.views}
        matrices = self._open(X)
        n_items = len(next(iter(matrices.values())))
        return encode_shared_specific(
            n_items, functools.partial(self._parts, matrices), self.shared_quantizer_, self.specific_quantizers_,
            self._learnt.columns, sizes=self.codebook_sizes, beam=beam,
        )  # fmt: skip

    def decode(self, codes: Mapping[str, Any]) -> dict[str, Matrix]:
        """Return the embeddings that codes stand for, in the space of the original views.

        Parameters
        ----------
        codes : mapping of str to array-like of shape (n_items, n_shared + n_specific), any integer dtype
            One entry per view; the first `n_shared` columns equal over views.

        Returns
        -------
        decoded : dict of str to ndarray of shape (n_items, dim of the view), dtype float32

        Raises
        ------
        InvalidValueError
            If a view is missing or unknown, a code lies outside its codebook, or shared codes differ between views.
        """
        checked = self._check_codes(codes)
        decoded = {}
        for view, books in self.codebooks.items():
            part = decode_codes(checked[view], books)
            part /= self.scaling_[view].factor
            part += self.scaling_[view].mean
            decoded[view] = part
        return decoded

    def _to_save(self) -> tuple[dict[str, Any], LearntViews, None]:
        self._check_fitted()
        return self.get_params() | {"codebook_size": list(self.codebook_sizes)}, self._learnt, None

    def _from_saved(self, learnt: LearntViews, history: Any) -> Self:
        return self._learn(learnt)

    def _joined_blocks(self, X: ViewsOrBatches) -> Iterator[Matrix]:
        """Yield the standardised views side by side, block by block."""
        X = checked_batches(X, self.feature_names_in_)
        for block in iter_view_batches(X, self.views, dims=self._learnt.dims):
            parts = self._parts(block, slice(0, None))
            yield np.concatenate([parts[view] for view in self.views], axis=1)

    def _check_codes(self, codes: Any) -> dict[str, CodeArray]:
        self._check_fitted()
        check_view_names(codes, self.views, name="codes")
        checked = {view: check_codes(codes[view], self.codebook_sizes, name=f"codes[{view!r}]") for view in self.views}
        check_shared_codes(checked, self.n_shared)
        return checked

    def _check_parameters(self) -> np.random.Generator:
        check_count(self.n_shared, "n_shared", least=0, most=MOST_LEVELS)
        check_count(self.n_specific, "n_specific", least=0, most=MOST_LEVELS)
        check_count(self.n_levels, "n_shared + n_specific")
        sizes_for(self.codebook_size, self.n_levels, n_items=None)
        check_init(self.init)
        check_count(self.max_iter, "max_iter")
        if self.sample_size is not None:
            check_count(self.sample_size, "sample_size")
        check_view_weights(self.view_weights, check_views(self.views))
        return np.random.default_rng(check_count(self.seed, "seed", least=0))

    def _train(
        self, matrices: Matrices, rows: Int64Array, sizes: tuple[int, ...], rng: np.random.Generator
    ) -> LearntViews:
        return fit_views(
            matrices, rows, weights=check_view_weights(self.view_weights, self.views),
            shared_sizes=sizes[: self.n_shared], specific_sizes=sizes[self.n_shared :],
            init=self.init, max_iter=self.max_iter, rng=rng, progress=self.progress,
        )  # fmt: skip

    def _shape(self) -> dict[str, Any]:
        """Return the parameters without which what was learnt cannot be read."""
        return {
            "n_shared": check_count(self.n_shared, "n_shared", least=0, most=MOST_LEVELS),
            "n_specific": check_count(self.n_specific, "n_specific", least=0, most=MOST_LEVELS),
            "views": check_views(self.views),
        }

    def _learn(self, learnt: LearntViews, names: Mapping[str, tuple[str, ...]] | None = None) -> Self:
        shape, shared = self._shape(), quantizer_of(learnt.shared.codebooks)
        specific = {view: quantizer_of(own.codebooks) for view, own in learnt.specific.items()}
        self._fitted_shape, self._learnt, self._pending = shape, learnt, []
        self.feature_names_in_ = dict(names or {})
        self.scaling_, self.shared_quantizer_, self.specific_quantizers_ = learnt.scaling, shared, specific
        self.shared_counts_ = learnt.shared.counts
        self.specific_counts_ = {view: own.counts for view, own in learnt.specific.items()}
        return self

    def _open(self, X: Any) -> dict[str, npt.NDArray[np.number[Any]]]:
        self._check_fitted()
        matrices = open_views(X, self.views, dims=self._learnt.dims)
        check_view_columns(X, self.feature_names_in_)
        return matrices

    def _parts(self, matrices: Matrices, rows: slice) -> dict[str, Matrix]:
        parts = {}
        for view, matrix in matrices.items():
            parts[view] = standardize(matrix, rows, self.scaling_[view], view=view)
            drop_pages(matrix)  # of memory-mapped embeddings, no more than a part stays in memory
        return parts

    def _check_fitted(self) -> None:
        pending = getattr(self, "_pending", [])
        if pending and not self.__sklearn_is_fitted__():
            needed = FIRST_ROWS_PER_CODE * max(sizes_for_batches(self.codebook_size, self.n_levels))
            n_pending = _count_rows(pending)
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet: expected {needed} rows from partial_fit, got "
                f"{n_pending}. Give more batches, or call fit."
            )
        check_is_fitted(self)
        check_unchanged(self._shape(), self._fitted_shape)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "scaling_")


def _count_rows(batches: Sequence[Matrices]) -> int:
    return sum(len(next(iter(batch.values()))) for batch in batches)
