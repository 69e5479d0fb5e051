import numpy as np
import pytest
from oracles import residual_encode_oracle

from semid.quantizers.levels import (
    HANDICAP,
    refine_codebooks,
    refine_jointly,
    share_handicaps,
    take_by_beam,
    take_nearest,
)


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
