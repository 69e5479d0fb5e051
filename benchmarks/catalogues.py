"""Synthetic codes with the shape of a catalogue's: crowded heads, long thin tails, different below every prefix."""

import numpy as np

__all__ = ["clustered_codes"]


def clustered_codes(n_items, codebook_sizes, *, skew=2.0, seed=0):
    """Return `n_items` distinct rows in random order, shape (n_items, n_levels), dtype uint16.

    A uniform draw raised to the power `skew` gives few popular codes; which codes are popular is shuffled anew below
    every prefix, as it is in residual quantizers, where a centroid means something else in every cell.
    """
    rng = np.random.default_rng(seed)
    rows = np.empty((0, len(codebook_sizes)), np.uint16)
    while len(rows) < n_items:
        n_drawn = int(1.3 * n_items) + 1000
        drawn = np.empty((n_drawn, len(codebook_sizes)), np.uint16)
        prefix = np.zeros(n_drawn, np.uint64)
        for level, size in enumerate(codebook_sizes):
            popularity = (size * rng.random(n_drawn) ** skew).astype(np.uint64)
            shift = (prefix * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)  # Fibonacci hashing of the prefix
            drawn[:, level] = (popularity + shift) % np.uint64(size)
            prefix = prefix * np.uint64(size) + drawn[:, level] + np.uint64(1)
        rows = np.unique(np.concatenate([rows, drawn]), axis=0)
    return rng.permutation(rows)[:n_items]
