"""Synthetic item embeddings with the shape of a text encoder's: a tree of clusters on the unit sphere."""

import numpy as np

__all__ = ["clustered_embeddings", "participation_ratio"]

# Nodes below each node of the tree, and how far (standard deviation) a node lies from its parent: topics, subtopics and
# families of products. The items scatter around their family.
BRANCHES = (64, 32, 8)
BRANCH_SPREAD = (1.0, 0.7, 0.5)
ITEM_SPREAD = 0.55
# The r-th most popular family has r ** -0.8 times the items of the first.
POPULARITY_EXPONENT = 0.8
# Variants of a product differ in a word, listings of the same product not at all.
NEAR_DUPLICATES, NEAR_SPREAD = 0.03, 0.03
EXACT_DUPLICATES = 0.005
# Text embeddings share a direction: their mean is far from zero.
COMMON_OFFSET = 0.3
BLOCK_ROWS = 65_536


def clustered_embeddings(n_items, *, dim=384, seed=0, out=None):
    """Return `n_items` rows of norm 1 in random order, shape (n_items, dim), dtype float32.

    The variance along the i-th principal axis falls as 1 / i and the axes are a random rotation, which gives an
    effective number of dimensions (`participation_ratio`) of about 30 for 384.
    Rows are made by blocks: with `out`, a memory-mapped array, no more than a block of them is in memory.
    """
    rng = np.random.default_rng(seed)
    axis_spread = np.arange(1, dim + 1, dtype=np.float32) ** np.float32(-0.5)
    axis_spread /= np.linalg.norm(axis_spread)
    axes = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)

    def scatter(n, spread):
        return np.float32(spread) * axis_spread * rng.standard_normal((n, dim), dtype=np.float32)

    families = np.zeros((1, dim), np.float32)
    for n_below, spread in zip(BRANCHES, BRANCH_SPREAD, strict=True):
        families = np.repeat(families, n_below, axis=0)
        families += scatter(len(families), spread)
    popularity = rng.permutation(np.arange(1.0, len(families) + 1) ** -POPULARITY_EXPONENT)
    edges = np.cumsum(popularity / popularity.sum())

    X = np.empty((n_items, dim), np.float32) if out is None else out
    for start in range(0, n_items, BLOCK_ROWS):
        n = min(BLOCK_ROWS, n_items - start)
        # A uniform draw looked up in the cumulated popularity; the last edge may round to just below 1.
        family = np.minimum(np.searchsorted(edges, rng.random(n)), len(families) - 1)
        rows = (families[family] + scatter(n, ITEM_SPREAD)) @ axes
        rows += np.float32(COMMON_OFFSET) * axes[0]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        _repeat_some(rows, rng, lambda n: scatter(n, NEAR_SPREAD) @ axes)
        X[start : start + n] = rows
    return X


def _repeat_some(rows, rng, near_noise):
    """Replace a few rows by noisy copies and fewer by exact copies of other rows, in place."""
    n_near, n_exact = int(NEAR_DUPLICATES * len(rows)), int(EXACT_DUPLICATES * len(rows))
    replaced = rng.permutation(len(rows))[: n_near + n_exact]
    near, exact = replaced[:n_near], replaced[n_near:]
    kept = np.setdiff1d(np.arange(len(rows)), replaced)  # the originals, so that exact copies stay exact
    rows[near] = rows[rng.choice(kept, n_near)] + near_noise(n_near)
    rows[near] /= np.linalg.norm(rows[near], axis=1, keepdims=True)
    rows[exact] = rows[rng.choice(kept, n_exact)]


def participation_ratio(X):
    """Return the effective number of dimensions: ``(sum_i v_i)^2 / sum_i v_i^2`` of the covariance's eigenvalues."""
    eigenvalues = np.linalg.eigvalsh(np.cov(np.asarray(X, np.float64), rowvar=False))
    return eigenvalues.sum() ** 2 / np.square(eigenvalues).sum()
