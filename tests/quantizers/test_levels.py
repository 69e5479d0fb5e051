import numpy as np
import pytest
from oracles import residual_encode_oracle
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from semid.errors import InvalidValueError
from semid.quantizers import KMeans, ResidualKMeans
from semid.quantizers.levels import (
    HANDICAP,
    absorb_batch,
    absorb_level,
    absorb_levels,
    distinct_rows,
    fit_codebooks,
    refine_codebooks,
    refine_jointly,
    share_handicaps,
    take_by_beam,
    take_nearest,
    train_levels,
)


def test_what_is_absorbed_counts(X):
    learnt = train_levels(ResidualKMeans(2, 8), X.copy(), (8, 8), np.random.default_rng(0))
    more = absorb_levels(X[:50].copy(), learnt)
    assert [int(count.sum()) for count in learnt.counts] == [len(X)] * 2
    assert [int(count.sum()) for count in more.counts] == [len(X) + 50] * 2


def test_a_capacity_that_cannot_hold_all_rows_is_refused(X):
    with pytest.raises(InvalidValueError, match="capacity is too small: expected"):
        train_levels(KMeans(8, capacity=1), X.copy(), (8,), np.random.default_rng(0))


def fit(x, sizes, **settings):
    residual = np.array(x, np.float32)
    settings = {"init": "progressive", "max_iter": 25, "rng": np.random.default_rng(0)} | settings
    return fit_codebooks(residual, sizes, **settings)[0], residual


@pytest.mark.parametrize("init", ["progressive", "k-means++"])
def test_each_level_explains_more(X, init):
    codebooks, residual = fit(X, (8, 8, 8), init=init)
    energies = [((fit(X, (8,) * levels, init=init)[1]) ** 2).sum() for levels in (1, 2, 3)]
    assert ((X - X.mean(axis=0)) ** 2).sum() > energies[0] > energies[1] > energies[2]
    assert energies[2] == pytest.approx((residual**2).sum())
    assert [book.shape for book in codebooks] == [(8, 32)] * 3


def test_fewer_distinct_rows_than_codes_leave_zero_vectors():
    x = np.repeat(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32), 4, axis=0)
    (first, second), residual = fit(x, (5, 4))
    np.testing.assert_array_equal(first, [[1, 2], [3, 4], [5, 6], [0, 0], [0, 0]])
    assert not second.any() and not residual.any()


def test_constant_embeddings_are_met_exactly():
    (first, second), _ = fit(np.full((20, 3), 0.1), (4, 4))
    np.testing.assert_array_equal(first[0], np.full(3, 0.1, np.float32))
    assert not first[1:].any() and not second.any()


def test_distinct_rows_come_in_order_and_stop_at_the_limit():
    x = np.array([[2.0], [0.0], [-0.0], [2.0], [1.0], [5.0]], np.float32)
    assert distinct_rows(x, limit=10)[:, 0].tolist() == [2, 0, 1, 5]
    assert distinct_rows(x, limit=2)[:, 0].tolist() == [2, 0, 1]


def test_no_bar_appears_off_a_terminal(X, capfd):
    fit(X, (4, 4), progress=True)
    assert capfd.readouterr() == ("", "")


def test_a_bar_appears_on_a_terminal_if_asked_for(X, monkeypatch, capfd):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fit(X, (4, 4), progress=True)
    assert "levels: 100%" in capfd.readouterr().err
    fit(X, (4, 4), progress=False)
    assert capfd.readouterr().err == ""


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


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_rounds_end_with_greedy_codes_and_less_distortion(make_clustered, rounds):
    x = make_clustered(2000, 16)
    books = [x[:12].copy(), (x[12:24] - x[24:36]) / 4]
    residual, codes = x.copy(), []
    for book in books:
        codes.append(take_nearest(residual, book))
    before = (residual**2).sum()
    refined, labels = refine_jointly(residual, books, codes, rounds=rounds)
    expected = residual_encode_oracle(x, refined)
    assert (np.stack(labels, axis=1) == expected).all(axis=1).mean() > 0.999
    np.testing.assert_allclose(residual, x - refined[0][labels[0]] - refined[1][labels[1]], atol=1e-5)
    assert (residual**2).sum() < before


def test_a_beam_finds_codes_that_no_greedy_search_finds():
    books = [np.array([[0.0], [3.0]], np.float32), np.array([[0.0], [2.0]], np.float32)]
    x = np.array([[2.0], [3.0]], np.float32)
    greedy = x.copy()
    assert [take_nearest(greedy, book).tolist() for book in books] == [[1, 1], [0, 0]]
    assert greedy[:, 0].tolist() == [-1.0, 0.0]
    assert [codes.tolist() for codes in take_by_beam(x, books)] == [[0, 1], [1, 0]]
    assert not x.any()


def test_a_code_is_handicapped_by_the_logarithm_of_its_share():
    residual = np.array([[2.0], [-2.0], [2.0], [-2.0]], np.float32)
    handicaps = share_handicaps(residual, np.array([0, 0, 0, 1], np.int32), 2)
    np.testing.assert_allclose(handicaps, HANDICAP * 4 * np.log([1.5, 0.5]), rtol=1e-6)


def test_a_handicap_sends_rows_near_a_border_to_the_other_code():
    x, book = np.array([[0.9], [1.1], [2.0]], np.float32), np.array([[0.0], [2.0]], np.float32)
    assert take_nearest(x.copy(), book).tolist() == [0, 1, 1]
    assert take_nearest(x.copy(), book, np.array([0.0, 0.5], np.float32)).tolist() == [0, 0, 1]


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
