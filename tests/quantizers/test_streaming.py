import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from semid.errors import InvalidValueError
from semid.quantizers import KMeans, ResidualKMeans
from semid.quantizers.levels import absorb_batch, absorb_level


def test_a_centroid_is_the_mean_of_all_rows_it_took(rng):
    first, second = rng.normal(size=(2, 60, 3)).astype(np.float32)
    codebook = np.array([[-1, 0, 0], [1, 0, 0]], np.float32)
    rows = [[], []]
    counts = np.zeros(2, np.int64)
    for batch in (first, second):
        labels = ((batch[:, None] - codebook) ** 2).sum(axis=2).argmin(axis=1)
        for code in range(2):
            rows[code].extend(batch[labels == code])
        codebook, found, counts = absorb_level(batch, codebook, counts)
        np.testing.assert_array_equal(found, labels)
        np.testing.assert_allclose(codebook, [np.mean(rows[0], axis=0), np.mean(rows[1], axis=0)], atol=1e-5)
    assert counts.tolist() == [len(rows[0]), len(rows[1])]


def test_an_idle_code_moves_to_the_row_that_is_served_worst(rng):
    x = rng.normal(size=(300, 2)).astype(np.float32)
    x[17] = 50.0
    codebook = np.array([[0, 0], [900, 900]], np.float32)
    centroids, _, counts = absorb_level(x, codebook, np.array([10, 0]))
    np.testing.assert_array_equal(centroids[1], x[17])
    assert counts[1] == 1


def test_later_levels_learn_what_the_moved_centroids_leave(rng):
    x = rng.normal(size=(100, 3)).astype(np.float32)
    batch = np.array(x)
    books, counts = absorb_batch(batch, (np.zeros((1, 3), np.float32),) * 2, (np.zeros(1, np.int64),) * 2)
    np.testing.assert_allclose(books[0][0], x.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(books[1][0], 0.0, atol=1e-6)
    np.testing.assert_allclose(batch, x - x.mean(axis=0), atol=1e-6)
    assert [count.tolist() for count in counts] == [[100], [100]]


@pytest.mark.parametrize("quantizer", [KMeans(8), ResidualKMeans(2, 8)], ids=["KMeans", "ResidualKMeans"])
def test_batches_come_near_a_fit(make_clustered, quantizer):
    X = make_clustered(6000, 16)
    streamed, whole = clone(quantizer), clone(quantizer).fit(X)
    for first in range(0, 6000, 300):
        assert streamed.partial_fit(X[first : first + 300]) is streamed
    distortions = [((X - q.decode(q.encode(X))) ** 2).sum() for q in (streamed, whole)]
    assert distortions[0] < 1.1 * distortions[1]
    assert sum(streamed.counts_[0]) == 6000
    again = clone(quantizer).partial_fit(X[first : first + 300] for first in range(0, 6000, 300))
    np.testing.assert_array_equal(again.codebooks[-1], streamed.codebooks[-1])


def test_until_there_are_enough_rows_it_is_not_fitted(X):
    quantizer = ResidualKMeans(2, 16).partial_fit(X[:1000])
    with pytest.raises(
        NotFittedError, match=r"not fitted yet: expected 1024 rows from partial_fit, got 1000\. Give more"
    ):
        quantizer.encode(X)
    with pytest.raises(InvalidValueError, match=r"X has 3 features, but ResidualKMeans is expecting 32 features"):
        quantizer.partial_fit(X[:, :3])
    np.testing.assert_array_equal(
        quantizer.partial_fit(X[1000:1024]).codebooks[0], ResidualKMeans(2, 16).fit(X[:1024]).codebooks[0]
    )


def test_after_fit_and_after_loading_it_goes_on(X, tmp_path):
    fitted = ResidualKMeans(2, 16).fit(X)
    fitted.save_pretrained(tmp_path)
    before = np.array(fitted.codebooks[0])
    loaded = ResidualKMeans.from_pretrained(tmp_path, mmap=True).partial_fit(X[:500])
    np.testing.assert_array_equal(loaded.codebooks[0], fitted.partial_fit(X[:500]).codebooks[0])
    assert (before != fitted.codebooks[0]).any() and np.abs(before - fitted.codebooks[0]).max() < 1


def test_auto_needs_the_number_of_items(X):
    with pytest.raises(InvalidValueError, match=r"codebook_size is unknown to partial_fit: expected an integer or one"):
        ResidualKMeans(2, "auto").partial_fit(X)
