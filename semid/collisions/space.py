"""The space in which the resolver measures distances, where an ID stands for a sum of one centroid per level."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from semid._arrays import Array
from semid.collisions.protocols import ResolvableQuantizer
from semid.quantizers.search import decode_codes

__all__ = ["AdditiveSpace", "additive_space"]

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
