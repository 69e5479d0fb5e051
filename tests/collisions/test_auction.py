"""The auction of all IDs: it ends, whatever the items are like, and says how good the result is."""

import numpy as np
import pytest

import semid
from semid.collisions import auction


def nearly_equal(n_other, rng):
    """As when most embeddings are missing and zeros stand in for them."""
    X = np.zeros((4000, 16), np.float32)
    X[:n_other] = rng.standard_normal((n_other, 16))
    return X


@pytest.mark.parametrize("n_other", [1, 3, 20])
def test_items_that_are_nearly_all_equal_get_ids_in_the_end(n_other, rng):
    X = nearly_equal(n_other, rng)
    quantizer = semid.ResidualKMeans(n_levels=3, codebook_size=16, seed=0).fit(X)
    found = semid.resolve(quantizer, X)
    assert found.n_collisions_after == 0 and len(np.unique(found.codes, axis=0)) == 4000
    assert np.isfinite([found.distortion_after, found.gap_over_all_ids]).all()


def test_an_auction_that_is_given_up_leaves_the_items_to_the_lists(rng, monkeypatch):
    X = rng.standard_normal((1500, 8), dtype=np.float32)
    quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=40, seed=0).fit(X)
    exact = semid.resolve(quantizer, X)
    order = rng.permutation(len(X))
    monkeypatch.setattr(auction, "LOOKS_PER_PAIR", 0)
    assert auction.auction_is_worthwhile(1500, 1600, 1600)
    for rows in (np.arange(len(X)), order):
        found = semid.resolve(quantizer, X[rows])
        assert found.n_collisions_after == 0
        assert found.distortion_after <= 1.5 * exact.distortion_after
        np.testing.assert_array_equal(found.codes, semid.resolve(quantizer, X).codes[rows])


def test_an_auction_can_be_interrupted_and_goes_on_in_parts(rng, monkeypatch):
    """The result does not depend on how much is done at once."""
    X = rng.standard_normal((1500, 8), dtype=np.float32)
    quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=40, seed=0).fit(X)
    expected = semid.resolve(quantizer, X)
    monkeypatch.setattr(auction, "LOOKS_AT_ONCE", 5000)
    parts, hold = [], auction.hold_auction

    def counted(*args):
        parts.append(None)
        return hold(*args)

    monkeypatch.setattr(auction, "hold_auction", counted)
    np.testing.assert_array_equal(semid.resolve(quantizer, X).codes, expected.codes)
    assert len(parts) > 50

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(auction, "hold_auction", interrupted)
    with pytest.raises(KeyboardInterrupt):
        semid.resolve(quantizer, X)
