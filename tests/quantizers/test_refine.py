import numpy as np
import pytest

from semid.quantizers.refine import refine_codebooks


@pytest.fixture
def levels(rng):
    x = rng.normal(size=(300, 5)).astype(np.float32)
    labels = [rng.integers(0, 6, 300).astype(np.int32), rng.integers(0, 4, 300).astype(np.int32)]
    books = [rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)]
    return x, labels, books


def test_sweeps_reach_the_least_squares_codebooks(levels):
    x, labels, books = levels
    residual = x - books[0][labels[0]] - books[1][labels[1]]
    refined = refine_codebooks(residual, books, labels, sweeps=50)
    design = np.concatenate([np.eye(7)[labels[0]], np.eye(4)[labels[1]]], axis=1)
    best, *_ = np.linalg.lstsq(design, x.astype(np.float64), rcond=None)
    np.testing.assert_allclose(refined[0][labels[0]] + refined[1][labels[1]], design @ best, atol=1e-4)
    np.testing.assert_allclose(residual, x - design @ best, atol=1e-4)


def test_a_sweep_never_raises_the_distortion_and_an_unused_centroid_stays(levels):
    x, labels, books = levels
    before = np.inf
    for sweeps in range(4):
        residual = x - books[0][labels[0]] - books[1][labels[1]]
        refined = refine_codebooks(residual, books, labels, sweeps=sweeps)
        assert (residual**2).sum() <= before
        before = (residual**2).sum() * (1 + 1e-6)
    np.testing.assert_array_equal(refined[0][6], books[0][6])
