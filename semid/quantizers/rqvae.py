"""RQVAE: residual codebooks on the latents of an autoencoder, trained together."""

import os
from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np
from sklearn.utils.validation import check_is_fitted

from semid._arrays import CodeArray, Matrix
from semid._checks import MOST_CANDIDATES, MOST_LEVELS, check_count
from semid.errors import InvalidTypeError
from semid.io.batches import check_embeddings, open_embeddings
from semid.io.matrices import check_codes
from semid.quantizers.base import QuantizerTransformer
from semid.quantizers.checks import check_hidden_sizes, check_unchanged, is_auto, sizes_for, sizes_for_batches
from semid.quantizers.columns import check_columns, keep_columns, read_columns
from semid.quantizers.networks.layers import Architecture, Fitted, apply_layers, encode_latents
from semid.quantizers.networks.options import SEED_LIMIT, CodeLearning, Training
from semid.quantizers.search import build_tables, decode_codes, search_codes

__all__ = ["RQVAE"]


@final
class RQVAE(QuantizerTransformer):
    """Write each embedding as a sum of centroids in the latent space of an autoencoder.

    This is the RQ-VAE of TIGER (arXiv:2305.05065), section 3.1: an encoder, residual codebooks on its output, and a
    decoder, trained to reconstruct embeddings from their codes. The fit centres the embeddings and scales them to a
    mean variance of 1; trains the autoencoder alone for some epochs; starts the codebooks by residual k-means of all
    latents (up to 262,144); and trains everything together. The state kept is that of the epoch with the least
    distortion of validation items, each with its nearest codes.

    Codes are chosen in the latent space, greedily or by beam search, and so is the cost of candidates: the squared
    distance between latent and sum of centroids. `decode` and every distortion that semid reports are in the space of
    the embeddings.

    torch trains; encoding and decoding are NumPy on the CPU, with the same bits on any number of threads. A fit on a
    CPU is repeated bit for bit by the same seed with the same torch, processor and number of threads; one on a GPU is
    not.

    Parameters
    ----------
    n_levels : int, default=3
        Number of codes per item.
    codebook_size : int, sequence of int, or "auto", default=256
        Number of centroids, of all levels or of each. "auto" as in `ResidualKMeans`.
    hidden_sizes : sequence of int, default=(512, 256, 128)
        Widths of the encoder's hidden layers; the decoder mirrors them.
    latent_dim : int, default=64
    learning : CodeLearning, optional
        How codes are chosen and learnt while training: moving averages or loss, gradient estimator, distance,
        revival, Sinkhorn.
    training : Training, optional
        Epochs, batch size, learning rate, validation, early stop, device, precision.
    seed : int, default=0
        Seed of the split, the layers, the batches and the starts.
    progress : bool, default=False
        Show a progress bar over the epochs while fitting, on a terminal only.

    Attributes
    ----------
    codebooks_ : tuple of ndarray of shape (codebook_size, latent_dim), dtype float32
        One per level, in the latent space.
    encoder_, decoder_ : tuple of Layer
        Weights of shape (dim in, dim out) and biases, dtype float32; ReLU is between layers.
    scaling_ : Scaling
        The mean, of shape (dim,), and the factor that standardise embeddings.
    history_ : list of dict
        Per epoch: "epoch", "learning_rate", means over the batches of "loss", "reconstruction" and "quantization",
        the share "used_codes" of the level that used fewest in training, "n_revived", and "validation_distortion", a
        share of the variance. Epochs of the warm-up lack the last three and "quantization".
    n_features_in_ : int
        Number of columns seen by `fit`, the dim.
    feature_names_in_ : ndarray of str
        Column names, if `fit` saw a data frame.

    Examples
    --------
    >>> import numpy as np
    >>> from semid import RQVAE
    >>> from semid.quantizers import Training
    >>> X = np.random.default_rng(0).normal(size=(200, 8))
    >>> quantizer = RQVAE(2, 16, hidden_sizes=(16,), latent_dim=4, training=Training(epochs=3)).fit(X)
    >>> quantizer.encode(X).shape, quantizer.decode(quantizer.encode(X)).shape
    ((200, 2), (200, 8))
    """

    _fitted_shape: dict[str, Any]
    _stream: Any
    """What `partial_fit` goes on with, None before it; not saved."""

    def __init__(
        self,
        n_levels: int = 3,
        codebook_size: int | Sequence[int] | str = 256,
        *,
        hidden_sizes: Sequence[int] = (512, 256, 128),
        latent_dim: int = 64,
        learning: CodeLearning | None = None,
        training: Training | None = None,
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        self.n_levels = n_levels
        self.codebook_size = codebook_size
        self.hidden_sizes = hidden_sizes
        self.latent_dim = latent_dim
        self.learning = learning
        self.training = training
        self.seed = seed
        self.progress = progress

    @property
    def codebooks(self) -> tuple[Matrix, ...]:
        """Centroids, one array of shape (codebook_size, latent_dim) and dtype float32 per level."""
        check_is_fitted(self)
        return self.codebooks_

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""
        if self._is_fitted():
            return tuple(map(len, self.codebooks_))
        if is_auto(self.codebook_size):
            check_is_fitted(self)
        return sizes_for(self.codebook_size, self.n_levels, n_items=None)

    @property
    def dim(self) -> int:
        """Number of columns of the embeddings."""
        check_is_fitted(self)
        return int(self.n_features_in_)

    def fit(self, X: Any, y: None = None, *, checkpoint: str | os.PathLike[str] | None = None) -> Self:
        """Train encoder, codebooks and decoder.

        A fit that is interrupted, by Ctrl-C or otherwise, leaves the quantizer as it was. With a checkpoint, the same
        call goes on after the last full epoch and ends with the bits of a fit that was never interrupted.

        Parameters
        ----------
        X : ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file, or array-like of shape (n_items, dim)
            Read batch by batch.
        y : None
            Ignored.
        checkpoint : path-like, optional
            A safetensors file, written after every epoch and continued from if it exists. Delete it when you are done.

        Returns
        -------
        self : RQVAE

        Raises
        ------
        InvalidValueError
            If there are fewer items than codes in a codebook, a value is not finite, a parameter is out of range, or
            training diverges.
        InvalidTypeError
            If `X` does not hold real numbers, or a parameter has a wrong type.
        FormatError
            If the checkpoint is damaged or belongs to a fit of other items or parameters.
        """
        from semid.quantizers.networks.fitting import fit_network

        matrix = open_embeddings(X)
        columns = read_columns(X, matrix)
        architecture, training, seed = self._check_parameters(n_items=len(matrix))
        fitted, history = fit_network(
            matrix, architecture, training, seed=seed, checkpoint=checkpoint, progress=self.progress
        )
        self._learn(fitted, history)
        keep_columns(self, columns)
        return self

    def partial_fit(self, X: Any, y: None = None) -> Self:
        """Train one pass over a batch of items, at the constant peak of the learning rate.

        The first call on a quantizer that is not fitted sets the scale from the batch, trains the autoencoder on it
        for ``training.warmup_epochs`` passes and starts the codebooks, so that batch should be large and mixed. After
        a fit or a load, training goes on with what was learnt and a fresh optimizer. There is no validation.

        Parameters
        ----------
        X : array-like of shape (n_items, dim)
            As in `fit`; kept in memory.
        y : None
            Ignored.

        Returns
        -------
        self : RQVAE

        Raises
        ------
        InvalidValueError
            If the first batch has fewer items than a codebook has codes, the dim changes, a value is not finite, or
            ``codebook_size="auto"``, which needs the number of items.
        """
        from semid.quantizers.networks.building import export
        from semid.quantizers.networks.fitting import stream_network

        known = self._is_fitted()
        if known:
            self._check_fitted()
        architecture, training, seed = self._check_parameters(n_items=None)
        batch = check_embeddings(X, dim=self.dim if known else None)
        columns = None if known else read_columns(X, batch)
        if columns is None:
            check_columns(self, X, batch)
        stream = self._stream if known else None
        if stream is None:
            fitted = Fitted(self.scaling_, self.encoder_, self.decoder_, self.codebooks_) if known else None
            stream = stream_network(batch, architecture, training, seed=seed, fitted=fitted)
        stream.learn(batch)
        self._learn(export(stream.network, stream.scaling), self.history_ if known else [])
        self._stream = stream
        if columns is not None:
            keep_columns(self, columns)
        return self

    def candidates(self, X: Any, *, count: int, beam: int) -> tuple[CodeArray, Matrix]:
        """Return the `count` best codes per embedding that a beam search of width `beam` finds, best first.

        Parameters
        ----------
        X : ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file, or array-like of shape (n_items, dim)
        count : int
            Rows of codes wanted per item. The search finds at most ``(beam + beam // 2) * codebook_sizes[-1]``.
        beam : int
            As in `ResidualKMeans.candidates`.

        Returns
        -------
        codes : ndarray of shape (n_items, count, n_levels), unsigned integer dtype
            0 where the search finds fewer than `count`.
        cost : ndarray of shape (n_items, count), dtype float32
            Squared distance between latent and sum of centroids; ``inf`` where the search finds fewer than `count`.
        """
        count, beam = check_count(count, "count", most=MOST_CANDIDATES), check_count(beam, "beam", most=MOST_CANDIDATES)
        return search_codes(self.latents(X), self._tables, beam=beam, count=count)

    def latents(self, X: Any) -> Matrix:
        """Return what codes are chosen for: the sum of the chosen centroids is near it.

        Parameters
        ----------
        X : ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file, or array-like of shape (n_items, dim)

        Returns
        -------
        latents : ndarray of shape (n_items, latent_dim), dtype float32
        """
        self._check_fitted()
        matrix = open_embeddings(X, dim=self.dim)
        check_columns(self, X, matrix)
        cosine = (self.learning or CodeLearning()).distance == "cosine"
        return encode_latents(matrix, self.scaling_, self.encoder_, unit_length=cosine)

    def decode(self, codes: Any) -> Matrix:
        """Return the embeddings that codes stand for.

        Parameters
        ----------
        codes : array-like of shape (n_items, n_levels), any integer dtype

        Returns
        -------
        decoded : ndarray of shape (n_items, dim), dtype float32
            What the decoder makes of the sum of the chosen centroids.

        Raises
        ------
        InvalidValueError
            If the shape is wrong or a code lies outside its codebook.
        InvalidTypeError
            If the codes are not integers.
        """
        self._check_fitted()
        quantized = decode_codes(check_codes(codes, self.codebook_sizes), self.codebooks_)
        decoded = apply_layers(quantized, self.decoder_)
        decoded /= np.float32(self.scaling_.factor)
        decoded += self.scaling_.mean
        return decoded

    def _to_save(self) -> tuple[dict[str, Any], Fitted, list[dict[str, float]]]:
        self._check_fitted()
        params = self.get_params() | {"codebook_size": list(self.codebook_sizes)}
        return params, Fitted(self.scaling_, self.encoder_, self.decoder_, self.codebooks_), self.history_

    def _from_saved(self, learnt: Fitted, history: Any) -> Self:
        return self._learn(learnt, history)

    def _is_fitted(self) -> bool:
        return getattr(self, "codebooks_", None) is not None

    def _check_parameters(self, *, n_items: int | None) -> tuple[Architecture, Training, int]:
        """Return what to train, how, and the seed; `n_items` is None for a batch."""
        check_count(self.n_levels, "n_levels", most=MOST_LEVELS)
        if n_items is not None:
            sizes = sizes_for(self.codebook_size, self.n_levels, n_items=n_items)
        else:
            sizes = self.codebook_sizes if self._is_fitted() else sizes_for_batches(self.codebook_size, self.n_levels)
        learning = self.learning if self.learning is not None else CodeLearning()
        training = self.training if self.training is not None else Training()
        for name, value, kind in (("learning", learning, CodeLearning), ("training", training, Training)):
            if not isinstance(value, kind):
                raise InvalidTypeError(
                    f"{name} has a wrong type: expected {kind.__name__} or None, got {type(value).__name__}. Pass "
                    f"semid.quantizers.{kind.__name__}(..)."
                )
        learning.balanced_levels(self.n_levels)
        hidden = check_hidden_sizes(self.hidden_sizes)
        architecture = Architecture(sizes, hidden, check_count(self.latent_dim, "latent_dim"), learning)
        return architecture, training, check_count(self.seed, "seed", least=0, most=SEED_LIMIT - 1)

    def _shape(self) -> dict[str, Any]:
        """Return the parameters without which what was learnt cannot be read."""
        return {
            "n_levels": check_count(self.n_levels, "n_levels", most=MOST_LEVELS),
            "hidden_sizes": check_hidden_sizes(self.hidden_sizes),
            "latent_dim": check_count(self.latent_dim, "latent_dim"),
            "learning.distance": getattr(self.learning or CodeLearning(), "distance", None),
        }

    def _check_fitted(self) -> None:
        check_is_fitted(self)
        check_unchanged(self._shape(), self._fitted_shape)

    def _learn(self, fitted: Fitted, history: list[dict[str, float]]) -> Self:
        shape, tables = self._shape(), build_tables(fitted.codebooks)
        self._fitted_shape, self._tables, self._stream = shape, tables, None
        self.scaling_, self.encoder_, self.decoder_, self.codebooks_ = fitted
        self.history_ = history
        self.n_features_in_ = len(self.scaling_.mean)
        return self
