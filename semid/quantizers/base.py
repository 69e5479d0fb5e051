"""What every quantizer can do, and what scikit-learn asks of one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags

from semid._arrays import CodeArray, FloatArray
from semid.quantizers.saving import SavedQuantizer

__all__ = ["MultiViewQuantizer", "Quantizer", "QuantizerTransformer"]


class Quantizer(ABC):
    """What every quantizer of one view can do.

    A fitted quantizer writes an embedding as one code per level, such that the sum of the chosen centroids is near
    the embedding.
    """

    n_levels: int

    @property
    @abstractmethod
    def codebooks(self) -> tuple[FloatArray, ...]:
        """Centroids, one array of shape (codebook_size, dim) and dtype float32 per level."""

    @property
    @abstractmethod
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""

    @abstractmethod
    def fit(self, X: Any, y: None = None) -> Self:
        """Learn the codebooks from embeddings of shape (n_items, dim)."""

    @abstractmethod
    def encode(self, X: Any, *, beam: int = 1) -> CodeArray:
        """Return the codes of embeddings, shape (n_items, n_levels)."""

    @abstractmethod
    def decode(self, codes: Any) -> FloatArray:
        """Return the embeddings that codes stand for, shape (n_items, dim), dtype float32."""

    @abstractmethod
    def candidates(self, X: Any, *, count: int, beam: int) -> tuple[CodeArray, FloatArray]:
        """Return the `count` best codes per embedding that a beam search of width `beam` finds, best first.

        Returns
        -------
        codes : ndarray of shape (n_items, count, n_levels)
            0 where the search finds fewer than `count`.
        cost : ndarray of shape (n_items, count), dtype float32
            Squared distance between embedding and decoded codes; ``inf`` where the search finds fewer than `count`.
        """


class MultiViewQuantizer(ABC):
    """What every quantizer of several views can do.

    Views and codes are mappings from view name to array. All views share the codes of the first `n_shared` levels;
    the other `n_specific` levels belong to each view alone.
    """

    n_shared: int
    n_specific: int
    views: Sequence[str]

    @property
    @abstractmethod
    def codebooks(self) -> dict[str, tuple[FloatArray, ...]]:
        """Per view, one array of shape (codebook_size, dim of the view) and dtype float32 per level."""

    @property
    @abstractmethod
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level, shared levels first; the same for every view."""

    @property
    def n_levels(self) -> int:
        """Number of codes of an item in each view."""
        return self.n_shared + self.n_specific

    @abstractmethod
    def fit(self, X: Mapping[str, Any], y: None = None) -> Self:
        """Learn the codebooks from one array of shape (n_items, dim of the view) per view."""

    @abstractmethod
    def encode(self, X: Mapping[str, Any], *, beam: int = 1) -> dict[str, CodeArray]:
        """Return per view the codes, shape (n_items, n_levels)."""

    @abstractmethod
    def decode(self, codes: Mapping[str, Any]) -> dict[str, FloatArray]:
        """Return per view the embeddings that codes stand for, shape (n_items, dim of the view), dtype float32."""


class QuantizerTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, SavedQuantizer, Quantizer):  # type: ignore[misc]
    """Base of every quantizer of one view."""

    def encode(self, X: Any, *, beam: int = 1) -> CodeArray:
        """Return the codes of embeddings.

        Parameters
        ----------
        X : array-like of shape (n_items, dim), or path
            As in `fit`; read by blocks, and a memory-mapped file leaves memory again. The k-means quantizers also take
            an iterable of batches.
        beam : int, default=1
            Prefixes kept while searching, half as many again before the last level. 1 takes the nearest centroid level
            by level; more finds nearer codes.

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

    def transform(self, X: Any) -> CodeArray:
        """Return the codes of embeddings, as `encode` does with one beam."""
        return self.encode(X)

    def inverse_transform(self, X: Any) -> npt.NDArray[np.float32]:
        """Return the embeddings that codes stand for, as `decode` does."""
        return self.decode(X)

    @property
    def _n_features_out(self) -> int:
        return len(self.codebooks)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # codes are integers whatever the dtype of the embeddings
        return tags
