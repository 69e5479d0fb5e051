import numpy as np
import pytest

from semid.quantizers.starts import STARTS, first_start, principal_axes, separating_start

EVERY_START = {**STARTS, "first": first_start, "separating": separating_start}


@pytest.fixture(scope="module")
def centred(make_clustered):
    x = make_clustered(3000, 48)
    return x - x.mean(axis=0)


def distortion(x, centroids):
    return ((x[:, None] - centroids[None]) ** 2).sum(axis=2).min(axis=1).mean()


@pytest.mark.parametrize("name", ["progressive", "k-means++", "first", "separating"])
def test_a_start_beats_random_rows(centred, name):
    rng = np.random.default_rng(0)
    centroids = EVERY_START[name](centred, 32, rng)
    assert centroids.shape == (32, 48) and centroids.dtype == np.float32 and centroids.flags.c_contiguous
    assert distortion(centred, centroids) < distortion(centred, centred[rng.choice(3000, 32, replace=False)])


@pytest.mark.parametrize("name", EVERY_START)
def test_the_same_seed_gives_the_same_start(centred, name):
    first, again, other = (EVERY_START[name](centred, 16, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("name", EVERY_START)
@pytest.mark.parametrize("dim", [1, 2, 17])
def test_few_dimensions_and_as_many_codes_as_rows(rng, name, dim):
    x = rng.normal(size=(20, dim)).astype(np.float32)
    assert np.isfinite(EVERY_START[name](x - x.mean(axis=0), 19, rng)).all()


def test_random_rows_are_rows_and_differ_as_far_as_they_can(rng):
    x = np.repeat(np.arange(6, dtype=np.float32)[:, None], 3, axis=0)
    start = STARTS["random"](x, 9, rng)
    assert start.shape == (9, 1) and set(start[:, 0]) <= set(x[:, 0])
    assert len(np.unique(start)) == 6


def test_principal_axes_span_the_strongest_directions(rng):
    spread = np.array([1, 9, 2, 5, 1], np.float32)
    axes = principal_axes(rng.normal(size=(40_000, 5)).astype(np.float32) * spread, 2)
    np.testing.assert_allclose(np.abs(axes), np.eye(5)[:, [1, 3]], atol=0.02)
