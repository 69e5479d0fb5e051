"""What the resolver asks of a quantizer, and the space in which codes stand for sums of centroids."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from semid._arrays import Array, FloatArray
from semid.io.matrices import drop_pages
from semid.quantizers.search import decode_codes

__all__ = [
    "AdditiveSpace",
    "ResolvableQuantizer",
    "ResolvableViews",
    "Views",
    "additive_space",
    "distortion_of_views",
    "members_of",
    "subtract_shared",
]


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


# IDs whose embedding is compared with the sum of their centroids.
N_CHECKED = 16


class AdditiveSpace(NamedTuple):
    """Embeddings and centroids such that the cost of an ID is ``|z - sum_l codebooks[l][code_l]|^2``."""

    Z: npt.NDArray[np.float32]  # (n_items, dim)
    codebooks: tuple[npt.NDArray[np.float32], ...]  # one (codebook_size, dim) per level

    def rest(self, prefixes: Array) -> "AdditiveSpace":
        """Return the space of the other levels, once `prefixes` of shape (n_items, n_first) are chosen."""
        n_first = prefixes.shape[1]
        if n_first == 0:
            return self
        return AdditiveSpace(self.Z - decode_codes(prefixes, self.codebooks[:n_first]), self.codebooks[n_first:])


def additive_space(quantizer: ResolvableQuantizer, X: npt.NDArray[np.float32]) -> AdditiveSpace | None:
    """Return where a quantizer measures its costs; None if IDs do not stand for sums of centroids there.

    A quantizer that measures in a latent space says so by a method `latents`. Any other is taken at its word: decoding
    is tried out, one code at a time, which gives the centroids in the space of the embeddings whatever the codebooks
    are like (those of a product quantizer have few columns), and some IDs are decoded as a whole to compare.
    """
    latents = getattr(quantizer, "latents", None)
    if latents is not None:
        return AdditiveSpace(latents(X), tuple(np.asarray(book, np.float32) for book in quantizer.codebooks))
    sizes = tuple(quantizer.codebook_sizes)
    probes = np.zeros((1 + sum(sizes), len(sizes)), dtype=np.int64)
    ends = np.cumsum(sizes)
    for level, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        probes[1 + end - size : 1 + end, level] = np.arange(size)
    decoded = np.asarray(quantizer.decode(probes), np.float64)
    # Zeros at every other level: what they stand for is counted once, in the first codebook.
    parts = np.split(decoded[1:] - decoded[0], ends[:-1])
    parts[0] += decoded[0]
    books = tuple(part.astype(np.float32) for part in parts)
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, size, N_CHECKED) for size in sizes], axis=1)
    expected = np.asarray(quantizer.decode(codes), np.float64)
    scale = np.abs(decoded).max() + 1e-30
    if not np.allclose(decode_codes(codes, books), expected, rtol=0, atol=1e-4 * scale):
        return None
    return AdditiveSpace(X, books)


def subtract_shared(quantizer: ResolvableViews, X: Views, shared: Array) -> Views:
    """Return what the shared levels leave of each view, dtype float32."""
    if quantizer.shared_quantizer is None:
        return X
    decoded = quantizer.shared_quantizer.decode(shared)
    ends = np.cumsum([X[view].shape[1] for view in quantizer.views])
    parts = np.split(decoded, ends[:-1], axis=1)
    return {view: np.ascontiguousarray(X[view] - part) for view, part in zip(quantizer.views, parts, strict=True)}


# Rows decoded at a time: at most 128 MiB of float64 up to 2,048 dimensions.
BLOCK = 8192


def distortion_of_views(quantizer: ResolvableViews, X: Views, codes: Views) -> float:
    """Return the mean squared distance to the decoded codes in the standardised space, summed over views."""
    views, n_shared = tuple(quantizer.views), quantizer.n_shared
    n_items = len(X[views[0]])
    total = 0.0
    for begin in range(0, n_items, BLOCK):
        block = slice(begin, begin + BLOCK)
        part = {view: X[view][block] for view in views}
        residuals = subtract_shared(quantizer, part, codes[views[0]][block, :n_shared])
        for view in views:
            offsets = residuals[view].astype(np.float64)
            specific = quantizer.specific_quantizers[view] if len(quantizer.codebook_sizes) > n_shared else None
            if specific is not None:
                offsets -= specific.decode(codes[view][block, n_shared:])
            total += float(np.einsum("ij,ij->", offsets, offsets))
            drop_pages(X[view])
    return total / n_items
