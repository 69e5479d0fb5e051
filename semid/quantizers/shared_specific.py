"""SharedSpecificKMeans: codes that all views of an item share, then codes of each view's own."""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from semid.io.arrays import CodeArray, check_codes
from semid.quantizers.base import MultiViewQuantizer
from semid.quantizers.checks import check_codebook_sizes, check_count, check_init, check_seed
from semid.quantizers.residual import ResidualKMeans
from semid.quantizers.saving import read_shared_specific, write_shared_specific
from semid.quantizers.search import decode_codes
from semid.quantizers.shared_encoding import encode_shared_specific
from semid.quantizers.training import fit_codebooks, sample_rows
from semid.quantizers.views import (
    Scaling,
    check_same_codes,
    check_view_names,
    check_view_weights,
    check_views,
    column_slices,
    fit_scaling,
    open_views,
    standardize_block,
)

__all__ = ["SharedSpecificKMeans"]

Matrix = npt.NDArray[np.float32]


@final
class SharedSpecificKMeans(BaseEstimator, MultiViewQuantizer):  # type: ignore[misc]
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
    codebook_size : int or sequence of int, default=256
        Number of centroids, of all levels or of each of the ``n_shared + n_specific`` levels.
    views : sequence of str, default=("semantic", "collaborative")
        Names of the views, two or more.
    view_weights : mapping of str to float, optional
        Factor of each view's squared distances in the shared levels; 1 where not given.
    seed : int, default=0
    max_iter : int, default=25
    init : {"progressive", "k-means++"}, default="progressive"
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

    def __init__(
        self,
        n_shared: int = 1,
        n_specific: int = 2,
        codebook_size: int | Sequence[int] = 256,
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
        check_is_fitted(self)
        books = {}
        for view, columns in self._columns().items():
            shared, own = codebooks_of(self.shared_quantizer_), codebooks_of(self.specific_quantizers_[view])
            books[view] = (*(np.ascontiguousarray(book[:, columns]) for book in shared), *own)
        return books

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level, shared levels first; the same for every view."""
        return check_codebook_sizes(self.codebook_size, self.n_levels)

    @property
    def shared_quantizer(self) -> ResidualKMeans | None:
        """The quantizer of the joined standardised views, in the order of `views`; None without shared levels."""
        check_is_fitted(self)
        return self.shared_quantizer_

    @property
    def specific_quantizers(self) -> dict[str, ResidualKMeans | None]:
        """Per view the quantizer of its standardised residual after the shared levels; None without specific levels."""
        check_is_fitted(self)
        return self.specific_quantizers_

    def fit(self, X: Mapping[str, Any], y: None = None) -> Self:
        """Learn the scaling of each view, the shared and the specific codebooks.

        Parameters
        ----------
        X : mapping of str to array-like of shape (n_items, dim of the view)
            One entry per view: ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file. Row i of every view is item
            i. Only the rows of the training sample are read and checked.
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
        """
        sizes, weights = self._check_parameters()
        rng = np.random.default_rng(check_seed(self.seed))
        fit_levels = functools.partial(
            fit_codebooks,
            init=check_init(self.init),
            max_iter=check_count(self.max_iter, "max_iter"),
            rng=rng,
            progress=self.progress,
        )
        matrices = open_views(X, self.views)
        n_items = len(next(iter(matrices.values())))
        rows = sample_rows(n_items, sizes, sample_size=self.sample_size, rng=rng)
        scaling, parts = {}, {}
        for view, matrix in matrices.items():
            scaling[view], parts[view] = fit_scaling(matrix, rows, view=view, weight=weights[view])
        shared: tuple[Matrix, ...] = ()
        if self.n_shared:
            joined = np.concatenate(list(parts.values()), axis=1)
            parts.clear()
            shared, _ = fit_levels(joined, sizes[: self.n_shared], more_follow=self.n_specific > 0)
            columns = column_slices({view: len(each.mean) for view, each in scaling.items()})
            parts = {view: np.ascontiguousarray(joined[:, columns[view]]) for view in scaling}
            del joined
        specific = {view: fit_levels(part, sizes[self.n_shared :])[0] for view, part in parts.items()}
        return self._learn(scaling, shared, specific)

    def standardize(self, X: Mapping[str, Any]) -> dict[str, Matrix]:
        """Return each view centred and scaled as the fit found it, shape (n_items, dim of the view), dtype float32."""
        check_is_fitted(self)
        matrices = open_views(X, self.views, dims={view: len(each.mean) for view, each in self.scaling_.items()})
        return {view: standardize_block(matrix, slice(0, None), self.scaling_[view], view=view)
                for view, matrix in matrices.items()}  # fmt: skip

    def encode(self, X: Mapping[str, Any], *, beam: int = 1) -> dict[str, CodeArray]:
        """Return the codes of each view.

        Parameters
        ----------
        X : mapping of str to array-like of shape (n_items, dim of the view)
            Read by blocks.
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
        check_is_fitted(self)
        check_count(beam, "beam")
        matrices = open_views(X, self.views, dims={view: len(each.mean) for view, each in self.scaling_.items()})
        n_items = len(next(iter(matrices.values())))

        def parts_of(block: slice) -> dict[str, Matrix]:
            return {view: standardize_block(matrix, block, self.scaling_[view], view=view)
                    for view, matrix in matrices.items()}  # fmt: skip

        return encode_shared_specific(
            n_items, parts_of, self.shared_quantizer_, self.specific_quantizers_, self._columns(),
            sizes=self.codebook_sizes, beam=beam,
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
        check_is_fitted(self)
        check_view_names(codes, self.views, name="codes")
        checked = {view: check_codes(codes[view], self.codebook_sizes, name=f"codes[{view!r}]") for view in self.views}
        check_same_codes(checked, self.n_shared)
        decoded = {}
        for view, books in self.codebooks.items():
            part = decode_codes(checked[view], books)
            part /= self.scaling_[view].factor
            part += self.scaling_[view].mean
            decoded[view] = part
        return decoded

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the codebooks (safetensors), the parameters (config.json) and a README.md to a folder."""
        check_is_fitted(self)
        shared, specific = codebooks_of(self.shared_quantizer_), self.specific_quantizers_
        write_shared_specific(
            folder,
            params=self.get_params() | {"codebook_size": list(self.codebook_sizes)},
            scaling=self.scaling_,
            shared=shared,
            specific={view: codebooks_of(quantizer) for view, quantizer in specific.items()},
        )

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
        params, scaling, shared, specific = read_shared_specific(folder, mmap=mmap)
        return cls(**params)._learn(scaling, shared, specific)

    def _check_parameters(self) -> tuple[tuple[int, ...], dict[str, float]]:
        check_count(self.n_shared, "n_shared", least=0)
        check_count(self.n_specific, "n_specific", least=0)
        check_count(self.n_levels, "n_shared + n_specific")
        if self.sample_size is not None:
            check_count(self.sample_size, "sample_size")
        return self.codebook_sizes, check_view_weights(self.view_weights, check_views(self.views))

    def _learn(
        self, scaling: dict[str, Scaling], shared: Sequence[Matrix], specific: Mapping[str, Sequence[Matrix]]
    ) -> Self:
        self.scaling_ = scaling
        self.shared_quantizer_ = ResidualKMeans.from_codebooks(shared) if shared else None
        self.specific_quantizers_ = {
            view: ResidualKMeans.from_codebooks(books) if books else None for view, books in specific.items()
        }
        return self

    def _columns(self) -> dict[str, slice]:
        return column_slices({view: len(each.mean) for view, each in self.scaling_.items()})


def codebooks_of(quantizer: ResidualKMeans | None) -> tuple[Matrix, ...]:
    """Return the codebooks of a quantizer that may have no levels."""
    return () if quantizer is None else quantizer.codebooks
