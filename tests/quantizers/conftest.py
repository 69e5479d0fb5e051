"""Embeddings like those of a catalogue: clusters within clusters, a few strong directions, copies, a common offset."""

import numpy as np
import pytest


def clustered(n_items, dim, *, seed=0, branches=(16, 8, 4), copies=0.02):
    """Return unit rows around the leaves of a random tree, whose spread per axis falls like 1 / sqrt(axis)."""
    rng = np.random.default_rng(seed)
    spread = (1.0 / np.sqrt(np.arange(1, dim + 1))).astype(np.float32)
    centres = np.zeros((1, dim), np.float32)
    for depth, branch in enumerate(branches):
        step = rng.standard_normal((len(centres), branch, dim), dtype=np.float32) * spread * 0.8**depth
        centres = (centres[:, None] + step).reshape(-1, dim)
    popularity = 1.0 / np.arange(1, len(centres) + 1)
    leaf = rng.permutation(len(centres))[rng.choice(len(centres), n_items, p=popularity / popularity.sum())]
    X = centres[leaf] + 0.6 * rng.standard_normal((n_items, dim), dtype=np.float32) * spread
    n_copies = int(copies * n_items)
    X[rng.choice(n_items, n_copies, replace=False)] = X[rng.integers(0, n_items, n_copies)]
    X = X @ np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32) + 0.1
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@pytest.fixture(scope="session")
def X():
    """2,000 items of 32 dimensions, read-only: nothing may write into what a caller passes."""
    X = clustered(2000, 32)
    X.flags.writeable = False
    return X


@pytest.fixture(scope="session")
def make_clustered():
    return clustered
