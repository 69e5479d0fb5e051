"""SharedSpecificRQVAE: codes that all views of an item share, then codes of each view's own, on trained latents."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from semid._arrays import CodeArray, Matrix
from semid._checks import MOST_CANDIDATES, MOST_LEVELS, check_count, check_shared_codes, check_view_names, check_views
from semid.errors import InvalidValueError
from semid.io.matrices import check_codes
from semid.quantizers.base import MultiViewQuantizer
from semid.quantizers.checks import check_hidden_sizes, check_unchanged, is_auto, sizes_for, sizes_for_batches
from semid.quantizers.columns import check_view_columns, read_view_columns
from semid.quantizers.learnt import column_slices
from semid.quantizers.networks.layers import FittedViews, ViewsArchitecture, apply_layers, encode_views
from semid.quantizers.networks.options import SEED_LIMIT, Recipe, check_recipe
from semid.quantizers.residual import ResidualKMeans
from semid.quantizers.saving import SavedQuantizer
from semid.quantizers.search import decode_codes
from semid.quantizers.shared_levels import encode_shared_specific
from semid.quantizers.views import check_view_weights, open_views

__all__ = ["SharedSpecificRQVAE"]


@final
class SharedSpecificRQVAE(BaseEstimator, SavedQuantizer, MultiViewQuantizer):  # type: ignore[misc]
    """Write each item as shared codes for all its views, then specific codes for each view, on trained latents.

    This is the identifier of GenSAR (arXiv:2504.05730): an encoder per view; shared residual levels on the joined
    latents; specific residual levels on each view's part of what these leave over; and a decoder per view, which reads
    its part of the shared and its own centroids. Everything is trained together to reconstruct the views.

    Recipe "gensar" trains as published. Recipe "default" scales each view to one variance, trains the autoencoders
    before there are codebooks, starts the codebooks from all encoded rows, revives dead codes, lets every level commit
    the encoders, and stops early on held-out items.

    Codes are chosen in the latent space, and so is the cost of candidates: `standardize` returns latents. `decode` is
    in the space of the views. torch trains; encoding and decoding are NumPy on the CPU, with the same bits on any
    number of threads. A fit on a CPU is repeated bit for bit by the same seed, torch release and number of threads.

    Parameters
    ----------
    n_shared : int, default=2
        Levels whose codes are equal over views; may be 0.
    n_specific : int, default=2
        Levels of each view's own; may be 0, but not both.
    codebook_size : int, sequence of int, or "auto", default=256
        Number of centroids, of all levels or of each of the ``n_shared + n_specific`` levels. "auto" as in
        `ResidualKMeans`.
    views : sequence of str, default=("semantic", "collaborative")
        Names of the views, one or more.
    view_weights : mapping of str to float, optional
        Factor of each view's squared errors; 1 where not given.
    hidden_sizes : sequence of int, default=(512, 256, 128, 64)
        Widths of each encoder's hidden layers; the decoders mirror them.
    latent_dim : int or mapping of str to int, default=32
        Of all views or of each.
    recipe : {"default", "gensar"} or Recipe, default="default"
        How to train.
    seed : int, default=0
        Seed of the split, the layers, the batches and the starts.
    progress : bool, default=False
        Show a progress bar over the epochs while fitting, on a terminal only.

    Attributes
    ----------
    shared_quantizer_ : ResidualKMeans or None
        Of the joined latents, in the order of `views`; None without shared levels.
    specific_quantizers_ : dict of str to ResidualKMeans or None
        Per view, of what its shared levels left over; None without specific levels.
    encoders_, decoders_ : dict of str to tuple of Layer
        Per view the weights of shape (dim in, dim out) and biases, dtype float32; ReLU is between layers.
    scaling_ : dict of str to Scaling
        Per view the mean, of shape (dim,), and the factor that standardise it before its encoder.
    history_ : list of dict
        Per epoch: "epoch", "learning_rate", means over the batches of "loss" and, with codebooks, "reconstruction" and
        "quantization"; where judged, "error" (squared error over variance, mean over views) or "collisions".
    feature_names_in_ : dict of str to tuple of str
        Column names of the views that were data frames in the fit.

    Examples
    --------
    >>> import numpy as np
    >>> from semid import SharedSpecificRQVAE
    >>> from semid.quantizers import Recipe, Training
    >>> rng = np.random.default_rng(0)
    >>> X = {"semantic": rng.normal(size=(50, 8)), "collaborative": rng.normal(size=(50, 3))}
    >>> recipe = Recipe(training=Training(epochs=2, warmup_epochs=2))
    >>> quantizer = SharedSpecificRQVAE(1, 2, 4, hidden_sizes=(16,), latent_dim=4, recipe=recipe).fit(X)
    >>> codes = quantizer.encode(X)
    >>> codes["semantic"].shape, bool((codes["semantic"][:, 0] == codes["collaborative"][:, 0]).all())
    ((50, 3), True)
    """

    feature_names_in_: dict[str, tuple[str, ...]]
    _fitted_shape: dict[str, Any]
    _stream: Any

    def __init__(
        self,
        n_shared: int = 2,
        n_specific: int = 2,
        codebook_size: int | Sequence[int] | str = 256,
        *,
        views: Sequence[str] = ("semantic", "collaborative"),
        view_weights: Mapping[str, float] | None = None,
        hidden_sizes: Sequence[int] = (512, 256, 128, 64),
        latent_dim: int | Mapping[str, int] = 32,
        recipe: str | Recipe = "default",
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        self.n_shared = n_shared
        self.n_specific = n_specific
        self.codebook_size = codebook_size
        self.views = views
        self.view_weights = view_weights
        self.hidden_sizes = hidden_sizes
        self.latent_dim = latent_dim
        self.recipe = recipe
        self.seed = seed
        self.progress = progress

    @property
    def codebooks(self) -> dict[str, tuple[Matrix, ...]]:
        """Per view, one array of shape (codebook_size, latent dim of the view) and dtype float32 per level.

        Of a shared level it is the view's slice of the joined centroids.
        """
        self._check_fitted()
        return {
            view: (*(np.ascontiguousarray(book[:, columns]) for book in self.shared_), *self.specific_[view])
            for view, columns in self._columns().items()
        }

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level, shared levels first; the same for every view."""
        if hasattr(self, "shared_"):
            return tuple(map(len, (*self.shared_, *next(iter(self.specific_.values())))))
        if is_auto(self.codebook_size):
            self._check_fitted()
        return sizes_for(self.codebook_size, self.n_levels, n_items=None)

    @property
    def shared_quantizer(self) -> ResidualKMeans | None:
        """The quantizer of the joined latents, in the order of `views`; None without shared levels."""
        self._check_fitted()
        return self.shared_quantizer_

    @property
    def specific_quantizers(self) -> dict[str, ResidualKMeans | None]:
        """Per view the quantizer of what the shared levels leave of its latents; None without specific levels."""
        self._check_fitted()
        return self.specific_quantizers_

    def fit(self, X: Mapping[str, Any], y: None = None, *, checkpoint: str | os.PathLike[str] | None = None) -> Self:
        """Train encoders, codebooks and decoders.

        A fit that is interrupted, by Ctrl-C or otherwise, leaves the quantizer as it was. With a checkpoint, the same
        call goes on after the last full epoch.

        Parameters
        ----------
        X : mapping of str to array-like of shape (n_items, dim of the view)
            One entry per view: ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file. Row i of every view is item
            i. Read batch by batch.
        y : None
            Ignored.
        checkpoint : path-like, optional
            A safetensors file, written after every epoch and continued from if it exists. Delete it when you are done.

        Returns
        -------
        self : SharedSpecificRQVAE

        Raises
        ------
        InvalidValueError
            If a view is missing or unknown, views differ in their number of rows, there are fewer items (with recipe
            "gensar": in a batch) than codes in a codebook, a value is not finite, a parameter is out of range, or
            training diverges.
        InvalidTypeError
            If a view does not hold real numbers, or a parameter has a wrong type.
        FormatError
            If the checkpoint is damaged or belongs to a fit of other items or parameters.
        """
        matrices = open_views(X, check_views(self.views))
        architecture, settings = self._check_parameters(n_items=len(next(iter(matrices.values()))))
        # Here, since torch is needed for training alone.
        from semid.quantizers.networks.fitting import fit_views_network

        fitted, history = fit_views_network(
            matrices, architecture, checkpoint=checkpoint, progress=self.progress, **settings
        )
        return self._learn(fitted, history, names=read_view_columns(X))

    def partial_fit(self, X: Mapping[str, Any], y: None = None) -> Self:
        """Train one pass over a batch of items, at the constant peak of the learning rate.

        The first call on a quantizer that is not fitted sets the scales from the batch, trains the autoencoders on it
        for ``recipe.training.warmup_epochs`` passes and starts the codebooks, so that batch should be large and mixed.
        After a fit or a load, training goes on with what was learnt and a fresh optimizer. There is no validation.

        Parameters
        ----------
        X : mapping of str to array-like of shape (n_items, dim of the view)
            As in `fit`.
        y : None
            Ignored.

        Returns
        -------
        self : SharedSpecificRQVAE

        Raises
        ------
        InvalidValueError
            If the first batch has fewer items than a codebook has codes, a dim changes, a value is not finite,
            or ``codebook_size="auto"``, which needs the number of items.
        """
        from semid.quantizers.networks.building import export_views
        from semid.quantizers.networks.fitting import stream_views_network

        known = hasattr(self, "shared_")
        if known:
            self._check_fitted()
        architecture, settings = self._check_parameters(n_items=None)
        matrices = self._open(X) if known else open_views(X, self.views)
        stream = self._stream if known else None
        if stream is None:
            stream = stream_views_network(matrices, architecture, fitted=self._fitted() if known else None, **settings)
        record = stream.learn(matrices)
        fitted = export_views(stream.network, stream.scaling)
        names = self.feature_names_in_ if known else read_view_columns(X)
        return self._learn(fitted, [*(self.history_ if known else []), record], stream, names=names)

    def standardize(self, X: Mapping[str, Any]) -> dict[str, Matrix]:
        """Return the latents of each view, shape (n_items, latent dim of the view), dtype float32."""
        matrices = self._open(X)
        return encode_views(matrices, slice(0, None), self.scaling_, self.encoders_)

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
        matrices = self._open(X)
        check_count(beam, "beam", most=MOST_CANDIDATES)
        n_items = len(next(iter(matrices.values())))
        return encode_shared_specific(
            n_items, lambda block: encode_views(matrices, block, self.scaling_, self.encoders_),
            self.shared_quantizer_, self.specific_quantizers_, self._columns(), sizes=self.codebook_sizes, beam=beam,
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
            What each view's decoder makes of the sum of the chosen centroids.

        Raises
        ------
        InvalidValueError
            If a view is missing or unknown, a code lies outside its codebook, or shared codes differ between views.
        """
        self._check_fitted()
        check_view_names(codes, self.views, name="codes")
        checked = {view: check_codes(codes[view], self.codebook_sizes, name=f"codes[{view!r}]") for view in self.views}
        check_shared_codes(checked, self.n_shared)
        decoded = {}
        for view, books in self.codebooks.items():
            part = apply_layers(decode_codes(checked[view], books), self.decoders_[view])
            part /= np.float32(self.scaling_[view].factor)
            part += self.scaling_[view].mean
            decoded[view] = part
        return decoded

    def _to_save(self) -> tuple[dict[str, Any], FittedViews, list[dict[str, float]]]:
        self._check_fitted()
        params = self.get_params(deep=False) | {"codebook_size": list(self.codebook_sizes)}
        return params, self._fitted(), self.history_

    def _from_saved(self, learnt: FittedViews, history: Any) -> Self:
        return self._learn(learnt, history)

    def _check_parameters(self, *, n_items: int | None) -> tuple[ViewsArchitecture, dict[str, Any]]:
        """Return what to train, and how; `n_items` is None for a batch."""
        check_count(self.n_shared, "n_shared", least=0, most=MOST_LEVELS)
        check_count(self.n_specific, "n_specific", least=0, most=MOST_LEVELS)
        check_count(self.n_levels, "n_shared + n_specific")
        views = check_views(self.views)
        if n_items is not None:
            sizes = sizes_for(self.codebook_size, self.n_levels, n_items=n_items)
        elif hasattr(self, "shared_"):
            sizes = self.codebook_sizes
        else:
            sizes = sizes_for_batches(self.codebook_size, self.n_levels)
        architecture = ViewsArchitecture(
            check_latent_dims(self.latent_dim, views),
            check_hidden_sizes(self.hidden_sizes),
            sizes[: self.n_shared],
            sizes[self.n_shared :],
        )
        return architecture, {
            "weights": check_view_weights(self.view_weights, views),
            "recipe": check_recipe(self.recipe),
            "seed": check_count(self.seed, "seed", least=0, most=SEED_LIMIT - 1),
        }

    def _open(self, X: Mapping[str, Any]) -> dict[str, npt.NDArray[np.number[Any]]]:
        self._check_fitted()
        matrices = open_views(X, self.views, dims={view: len(each.mean) for view, each in self.scaling_.items()})
        check_view_columns(X, self.feature_names_in_)
        return matrices

    def _shape(self) -> dict[str, Any]:
        """Return the parameters without which what was learnt cannot be read."""
        views, dim = check_views(self.views), self.latent_dim
        return {
            "n_shared": check_count(self.n_shared, "n_shared", least=0, most=MOST_LEVELS),
            "n_specific": check_count(self.n_specific, "n_specific", least=0, most=MOST_LEVELS),
            "views": views,
            "hidden_sizes": check_hidden_sizes(self.hidden_sizes),
            # Not checked, since the message should be of the views where they have changed.
            "latent_dim": dict(dim) if isinstance(dim, Mapping) else dict.fromkeys(views, dim),
        }

    def _check_fitted(self) -> None:
        check_is_fitted(self)
        check_unchanged(self._shape(), self._fitted_shape)

    def _learn(
        self,
        fitted: FittedViews,
        history: list[dict[str, float]],
        stream: Any = None,
        *,
        names: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Self:
        self._fitted_shape, self.feature_names_in_ = self._shape(), dict(names or {})
        self.scaling_, self.encoders_, self.decoders_, self.shared_, self.specific_ = fitted
        self.history_ = history
        self.shared_quantizer_ = ResidualKMeans.from_codebooks(self.shared_) if self.shared_ else None
        self.specific_quantizers_ = {
            view: ResidualKMeans.from_codebooks(books) if books else None for view, books in self.specific_.items()
        }
        self._stream = stream
        return self

    def _fitted(self) -> FittedViews:
        return FittedViews(self.scaling_, self.encoders_, self.decoders_, self.shared_, self.specific_)

    def _columns(self) -> dict[str, slice]:
        return column_slices({view: len(layers[-1].bias) for view, layers in self.encoders_.items()})


def check_latent_dims(latent_dim: Any, views: Sequence[str]) -> dict[str, int]:
    """Return one latent dim per view from a number for all views, or a mapping with one per view."""
    if not isinstance(latent_dim, Mapping):
        return dict.fromkeys(views, check_count(latent_dim, "latent_dim"))
    if set(latent_dim) != set(views):
        raise InvalidValueError(
            f"latent_dim has other views: expected {', '.join(map(repr, views))}, got "
            f"{', '.join(map(repr, latent_dim))}. Give one number per view, or one for all."
        )
    return {view: check_count(latent_dim[view], f"latent_dim[{view!r}]") for view in views}
