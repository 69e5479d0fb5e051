import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import SumQuantizer, sinkhorn_oracle

import semid
from semid.errors import InvalidValueError

LINE = SumQuantizer([[[0.0], [10.0]], [[0.0], [1.0]]])


def points(*values):
    return np.array(values, dtype=np.float32)[:, None]


def test_groups_are_counted_in_row_order():
    result = semid.resolve(LINE, points(0, 11, 0.1, 10, 0.2, 11), policy="suffix")
    assert result.codes.tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 2], [1, 1, 1]]
    assert result.codebook_sizes == (2, 2, 3)
    assert result.codes.dtype == np.uint8
    assert (result.n_collisions_before, result.n_collisions_after, result.n_moved) == (3, 0, 0)
    assert result.distortion_before == result.distortion_after == pytest.approx((0.1**2 + 0.2**2) / 6)
    assert result.optimality_gap == 0


def test_given_codes_are_extended():
    result = semid.resolve(LINE, points(0, 0), codes=[[1, 1], [1, 0]], policy="suffix")
    assert result.codes.tolist() == [[1, 1, 0], [1, 0, 0]]
    assert result.codebook_sizes == (2, 2, 1)


def test_new_items_count_on_behind_published_ones():
    taken = np.array([[0, 0, 0], [0, 0, 4], [1, 1, 6]])
    result = semid.resolve(LINE, points(0, 10, 0), policy="suffix", taken=taken)
    assert result.codes.tolist() == [[0, 0, 5], [1, 0, 0], [0, 0, 6]]
    assert result.codebook_sizes == (2, 2, 7)
    assert (result.n_collisions_before, result.n_collisions_after) == (2, 0)
    empty = semid.resolve(LINE, points(0), policy="suffix", taken=taken[:0])
    assert empty.codes.tolist() == [[0, 0, 0]]


@given(st.lists(st.sampled_from([0, 1, 10, 11]), min_size=1, max_size=300))
def test_suffixes_make_ids_unique_and_change_nothing_else(values):
    result = semid.resolve(LINE, points(*values), policy="suffix")
    assert (result.codes[:, :-1] == LINE.encode(points(*values))).all()
    assert len(np.unique(result.codes, axis=0)) == len(values)
    largest = max(values.count(value) for value in values)
    assert result.codebook_sizes[-1] == largest == result.codes[:, -1].max() + 1
    assert result.codes.dtype == np.min_scalar_type(max(largest, 2) - 1)


def colliding(quantizer, n_items=40, seed=0):
    X = np.random.default_rng(seed).standard_normal((n_items, 3), dtype=np.float32)
    return X, quantizer.encode(X)


def test_one_group_gets_the_codes_of_the_published_procedure(make_quantizer):
    quantizer = make_quantizer((1, 16))
    X = np.random.default_rng(0).standard_normal((5, 3), dtype=np.float32)
    codes = np.zeros((5, 2), dtype=int)
    rest = X - quantizer.codebooks[0]
    distance = ((rest[:, None].astype(np.float64) - quantizer.codebooks[1][None]) ** 2).sum(axis=2)
    expected = sinkhorn_oracle(distance, 0.003, 50)
    assert len(set(expected)) == 5  # so that there is one round
    result = semid.resolve(quantizer, X, codes, policy="sinkhorn")
    assert result.codes[:, 1].tolist() == expected.tolist()
    assert (result.n_collisions_before, result.n_collisions_after) == (4, 0)


def test_only_last_codes_of_collisions_change(make_quantizer):
    quantizer = make_quantizer((4, 16))
    X, codes = colliding(quantizer)
    result = semid.resolve(quantizer, X, policy="sinkhorn")
    assert (result.codes[:, 0] == codes[:, 0]).all()
    unique = np.unique(result.codes, axis=0)
    assert result.n_collisions_after == len(X) - len(unique) < result.n_collisions_before
    assert result.n_moved == (result.codes != codes).any(axis=1).sum()
    assert np.isnan(result.optimality_gap)
    assert np.isnan(result.gap_over_all_ids)


def test_equal_items_stay_together(make_quantizer):
    X = np.repeat(colliding(make_quantizer((4, 16)), 1)[0], 2, axis=0)
    assert semid.resolve(make_quantizer((4, 16)), X, policy="sinkhorn").n_collisions_after == 1


@pytest.mark.parametrize(("shared", "specific"), [((2,), (3, 16)), ((), (16,)), ((2, 16), ())])
def test_views_are_balanced_one_by_one(make_views_quantizer, shared, specific):
    quantizer = make_views_quantizer(shared, specific)
    rng = np.random.default_rng(0)
    X = {view: rng.standard_normal((30, 2), dtype=np.float32) for view in quantizer.views}
    before = quantizer.encode(X)
    result = semid.resolve(quantizer, X, policy="sinkhorn")
    for view in quantizer.views:
        assert (result.codes[view][:, :-1] == before[view][:, :-1]).all()
    left = sum(30 - len(np.unique(rows, axis=0)) for rows in result.codes.values())
    assert result.n_collisions_after == left < result.n_collisions_before


def test_a_quantizer_that_decodes_otherwise(make_quantizer):
    quantizer = make_quantizer((4, 4))
    decode = quantizer.decode
    quantizer.decode = lambda codes: decode(codes) ** 3
    with pytest.raises(
        InvalidValueError, match=r"expected a quantizer whose decode is a sum .* got SumQuantizer\. Choose"
    ):
        semid.resolve(quantizer, colliding(make_quantizer((4, 4)))[0][:5], policy="sinkhorn")
