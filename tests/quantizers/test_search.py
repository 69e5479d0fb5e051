import numpy as np
import pytest
from oracles import all_codes_oracle, residual_encode_oracle

from semid.quantizers.search import beam_widths, build_tables, decode_codes, search_codes

TABLES = {"tables": 1 << 28, "residual products": 0}


@pytest.fixture(params=TABLES)
def table_bytes(request):
    """Both ways to search: with tables of centroid products, and with a product per level."""
    return TABLES[request.param]


@pytest.fixture
def codebooks(rng):
    return tuple((rng.normal(size=(k, 8)) / 2**level).astype(np.float32) for level, k in enumerate((5, 7, 6)))


@pytest.fixture
def X(rng):
    return rng.normal(size=(300, 8)).astype(np.float32)


def search(X, codebooks, table_bytes, *, beam=1, count=1):
    return search_codes(X, build_tables(codebooks, table_bytes=table_bytes), beam=beam, count=count)


def assert_equal_but_for_ties(X, codebooks, codes, expected):
    """Allow another code only where its distance equals the expected one's in float32."""
    for row in np.flatnonzero((codes != expected).any(axis=1)):
        ours, theirs = (((X[row] - decode_codes(c[row], codebooks)) ** 2).sum() for c in (codes, expected))
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_greedy_agrees_with_the_float64_loop(X, codebooks, table_bytes):
    codes, cost = search(X, codebooks, table_bytes)
    expected = residual_encode_oracle(X, codebooks)
    assert (codes[:, 0] == expected).all(axis=1).mean() > 0.99
    assert_equal_but_for_ties(X, codebooks, codes[:, 0], expected)
    np.testing.assert_allclose(cost[:, 0], ((X - decode_codes(codes[:, 0], codebooks)) ** 2).sum(1), atol=1e-4)


@pytest.mark.parametrize("count", [1, 12, 210])
def test_a_full_width_beam_is_brute_force(X, codebooks, table_bytes, count):
    codes, cost = search(X, codebooks, table_bytes, beam=35, count=count)
    _, distance = all_codes_oracle(X, codebooks)
    np.testing.assert_allclose(cost, np.sort(distance, axis=1)[:, :count], atol=1e-4)
    keys = np.ravel_multi_index(np.moveaxis(codes, -1, 0), [len(book) for book in codebooks])
    np.testing.assert_allclose(np.take_along_axis(distance, keys, axis=1), cost, atol=1e-4)
    assert (np.diff(np.sort(keys, axis=1), axis=1) > 0).all()


def test_a_wider_beam_is_not_worse_on_average(X, codebooks, table_bytes):
    costs = [search(X, codebooks, table_bytes, beam=beam)[1].mean() for beam in (1, 4, 16)]
    assert costs == sorted(costs, reverse=True)


def test_where_the_search_finds_too_few_the_rest_is_infinite(X, codebooks, table_bytes):
    codes, cost = search(X, codebooks, table_bytes, beam=2, count=20)
    assert np.isfinite(cost[:, :18]).all() and np.isinf(cost[:, 18:]).all()  # 3 prefixes, 6 codes each
    assert not codes[:, 18:].any()


def test_equal_centroids_give_the_lower_code(table_bytes):
    codebooks = (np.array([[0, 0], [1, 1], [1, 1]], np.float32), np.zeros((4, 2), np.float32))
    codes, _ = search(np.array([[1, 1], [0, 0]], np.float32), codebooks, table_bytes)
    assert codes[:, 0].tolist() == [[1, 0], [0, 0]]


def test_a_common_offset_costs_no_digits(X, codebooks, table_bytes):
    offset = np.float32(2.0**10)
    moved = (codebooks[0] + offset, *codebooks[1:])
    ours = search(X + offset, moved, table_bytes)[1].mean()
    assert ours == pytest.approx(search(X, codebooks, table_bytes)[1].mean(), rel=1e-3)


def test_items_do_not_depend_on_their_neighbours(make_clustered, table_bytes):
    X = make_clustered(2500, 16)
    codebooks = X[:40], X[40:80] - X[80:120]
    codes, _ = search(X, codebooks, table_bytes, beam=2)
    for rows in (slice(0, 1), slice(1000, 1100), slice(2400, 2500)):
        assert_equal_but_for_ties(
            X[rows], codebooks, search(X[rows], codebooks, table_bytes, beam=2)[0][:, 0], codes[rows, 0]
        )


def test_one_level_and_one_code(X):
    codes, cost = search(X, (np.zeros((1, 8), np.float32),), 0, beam=3, count=2)
    assert not codes.any() and np.isinf(cost[:, 1]).all()
    np.testing.assert_allclose(cost[:, 0], (X**2).sum(1), rtol=1e-5)


def test_no_items_give_no_codes(codebooks, table_bytes):
    codes, cost = search(np.empty((0, 8), np.float32), codebooks, table_bytes, beam=2, count=3)
    assert codes.shape == (0, 3, 3) and cost.shape == (0, 3)


@pytest.mark.parametrize("sizes, beam, count, widths", [
    ((4, 4, 4), 1, 1, [1, 1, 1]), ((4, 4, 4), 8, 1, [4, 12, 1]), ((4, 4, 4), 2, 50, [2, 3, 12]), ((4,), 9, 3, [3]),
    ((9, 9, 9, 9), 4, 1, [4, 4, 6, 1]), ((9, 9), 4, 1, [6, 1]), ((9, 9), 1, 5, [1, 5]),
])  # fmt: skip
def test_beam_widths(sizes, beam, count, widths):
    assert beam_widths(sizes, beam=beam, count=count) == widths


def test_decode_adds_the_centroids(codebooks):
    codes = np.array([[[0, 1, 2]], [[4, 6, 5]]])
    expected = [
        [codebooks[0][0] + codebooks[1][1] + codebooks[2][2]],
        [codebooks[0][4] + codebooks[1][6] + codebooks[2][5]],
    ]
    np.testing.assert_allclose(decode_codes(codes, codebooks), expected, rtol=1e-6)
