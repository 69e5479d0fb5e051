import numpy as np
import pytest
from oracles import distortion_oracle

from semid.metrics import distortion
from semid.metrics.distortion import decoded_distortion, distortion_by_level, variance


@pytest.fixture(params=[3, 8192], ids="block of {}".format)
def _blocks(request, monkeypatch):
    monkeypatch.setattr(distortion, "BLOCK_ROWS", request.param)


@pytest.mark.usefixtures("_blocks")
def test_agrees_with_oracle(rng):
    X = rng.standard_normal((20, 4)).astype(np.float32)
    codebooks = tuple(rng.standard_normal((size, 4)).astype(np.float32) for size in (3, 5))
    codes = np.stack([rng.integers(0, 3, 20), rng.integers(0, 5, 20)], axis=1).astype(np.uint8)
    first = codebooks[0].astype(np.float64)[codes[:, 0]]
    both = first + codebooks[1][codes[:, 1]]
    expected = [distortion_oracle(X, first), distortion_oracle(X, both)]
    np.testing.assert_allclose(distortion_by_level(X, codes, codebooks), expected, rtol=1e-12)
    decoded = both.astype(np.float32)
    assert decoded_distortion(X, np.arange(20)[:, None], lambda at: decoded[at[:, 0]]) == pytest.approx(
        distortion_oracle(X, decoded), rel=1e-12
    )
    mean = X.astype(np.float64).mean(axis=0)
    assert variance(X) == pytest.approx(distortion_oracle(X, [mean] * 20), rel=1e-12)


def test_equal_rows_have_no_variance():
    assert variance(np.full((7, 3), 0.1, dtype=np.float32)) == 0.0


def test_variance_far_from_zero_keeps_its_digits(rng):
    X = rng.integers(0, 4, (100, 2)).astype(np.float32)
    assert variance(X + 2.0**20) == variance(X)
