"""What the resolver needs of a quantizer, so that anybody's own quantizer can be resolved, too."""

from collections.abc import Mapping
from typing import Any, Protocol

from semid._arrays import Array, FloatArray

__all__ = ["ResolvableQuantizer", "ResolvableViews", "Views", "members_of"]

Views = Mapping[str, Array]


class ResolvableQuantizer(Protocol):
    """A fitted quantizer of one view; `semid.quantizers.base.Quantizer` says what the names mean."""

    @property
    def codebooks(self) -> tuple[FloatArray, ...]:
        """Centroids, one array of shape (codebook_size, dim) per level."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each level."""

    def encode(self, X: Any) -> Array:
        """Return codes of shape (n_items, n_levels)."""

    def decode(self, codes: Any) -> Array:
        """Return embeddings of shape (n_items, dim)."""

    def candidates(self, X: Any, *, count: int, beam: int) -> tuple[Array, Array]:
        """Return codes of shape (n_items, count, n_levels), best first, and squared distances, ``inf`` where absent."""


class ResolvableViews(Protocol):
    """A fitted quantizer of several views whose IDs begin with codes that all views share."""

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views; the joined embedding has them in this order."""

    @property
    def n_shared(self) -> int:
        """Number of levels at the front that are common to all views."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each shared, then of each specific level."""

    @property
    def shared_quantizer(self) -> ResolvableQuantizer | None:
        """Quantizer of the joined standardised views, None without shared levels."""

    @property
    def specific_quantizers(self) -> Mapping[str, ResolvableQuantizer | None]:
        """Quantizer per view of what the shared levels leave of it, None without specific levels."""

    def standardize(self, views: Any) -> Views:
        """Return the views in the space that the quantizers work in."""

    def encode(self, views: Any) -> Views:
        """Return codes per view, shape (n_items, n_levels)."""


def members_of(protocol: type) -> list[str]:
    """Return the names that a protocol asks for."""
    return [name for name in vars(protocol) if not name.startswith("_")]
