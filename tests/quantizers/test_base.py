"""What holds for every quantizer of one view."""

import numpy as np
import pytest
from sklearn.base import clone

from semid.quantizers import KMeans, MultiViewQuantizer, ProductKMeans, Quantizer, ResidualKMeans

QUANTIZERS = {
    "KMeans": KMeans(16),
    "ProductKMeans": ProductKMeans(3, 16),
    "ProductKMeans, opq": ProductKMeans(4, (16, 8, 300, 2), rotation="opq"),
    "ResidualKMeans": ResidualKMeans(3, 16),
    "ResidualKMeans, sizes per level": ResidualKMeans(3, (300, 16, 4)),
    "ResidualKMeans, k-means++": ResidualKMeans(2, 16, init="k-means++"),
    "ResidualKMeans, one level": ResidualKMeans(1, 16),
    "ResidualKMeans, one code": ResidualKMeans(2, 1),
}


@pytest.fixture(scope="module", params=QUANTIZERS)
def quantizer(request, X):
    fitted = QUANTIZERS[request.param]
    assert fitted.fit(X) is fitted
    return fitted


def test_codes_lie_in_the_codebook(quantizer, X):
    codes = quantizer.encode(X)
    assert codes.shape == (2000, quantizer.n_levels) and codes.flags.c_contiguous
    assert codes.dtype == np.min_scalar_type(max(quantizer.codebook_sizes) - 1)
    assert (codes.max(axis=0) < quantizer.codebook_sizes).all()


def test_codebooks_have_their_sizes(quantizer):
    assert tuple(len(book) for book in quantizer.codebooks) == quantizer.codebook_sizes
    assert all(book.dtype == np.float32 and book.shape[1] == 32 for book in quantizer.codebooks)


def test_decoding_is_the_sum_of_the_centroids(quantizer, X):
    codes = quantizer.encode(X[:50])
    decoded = quantizer.decode(codes)
    assert decoded.shape == (50, 32) and decoded.dtype == np.float32
    expected = [sum(book[c] for book, c in zip(quantizer.codebooks, row, strict=True)) for row in codes]
    np.testing.assert_allclose(decoded, expected, atol=1e-6)


def test_candidates_are_distinct_sorted_and_cost_what_they_say(quantizer, X):
    codes, cost = quantizer.candidates(X[:100], count=6, beam=4)
    assert codes.shape == (100, 6, quantizer.n_levels) and cost.shape == (100, 6) and cost.dtype == np.float32
    for place in range(6):
        found = np.isfinite(cost[:, place])
        exact = ((X[:100] - quantizer.decode(codes[:, place])) ** 2).sum(axis=1)
        np.testing.assert_allclose(cost[found, place], exact[found], atol=1e-5)
    assert (cost[:, 1:] >= cost[:, :-1]).all()
    for rows, row_cost in zip(codes, cost, strict=True):
        assert len({tuple(row) for row in rows[np.isfinite(row_cost)].tolist()}) == np.isfinite(row_cost).sum()


def test_the_first_candidate_is_the_encoding(quantizer, X):
    codes, _ = quantizer.candidates(X, count=3, beam=4)
    np.testing.assert_array_equal(codes[:, 0], quantizer.encode(X, beam=4))


def test_rows_are_encoded_one_by_one_as_together(quantizer, X):
    together = quantizer.encode(X[:40])
    alone = np.concatenate([quantizer.encode(X[row : row + 1]) for row in range(40)])
    np.testing.assert_array_equal(alone, together)


def test_batches_give_what_the_whole_gives(quantizer, X):
    batches = [X[:700], X[700:710], X[710:]]
    streamed = clone(quantizer).fit(iter(batches))
    for book, expected in zip(streamed.codebooks, quantizer.codebooks, strict=True):
        np.testing.assert_array_equal(book, expected)
    np.testing.assert_array_equal(quantizer.encode(batch for batch in batches), quantizer.encode(X))


def test_a_long_stream_is_sampled(quantizer, X):
    streamed = clone(quantizer).set_params(sample_size=400).fit(X[first : first + 90] for first in range(0, 2000, 90))
    assert sum(streamed.counts_[0]) == 400


def test_no_codes_give_no_embeddings(quantizer):
    assert quantizer.decode(np.empty((0, quantizer.n_levels), np.uint8)).shape == (0, 32)


@pytest.mark.parametrize("interface", [Quantizer, MultiViewQuantizer])
def test_interfaces_are_abstract(interface):
    with pytest.raises(TypeError, match="abstract"):
        interface()
