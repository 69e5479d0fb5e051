"""A quantizer of one view as scikit-learn's transformer: embeddings in, codes out, one feature per level."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags

from semid._arrays import CodeArray
from semid.quantizers.base import Quantizer

__all__ = ["QuantizerTransformer"]


class QuantizerTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, Quantizer):  # type: ignore[misc]
    """Base of every quantizer of one view."""

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
