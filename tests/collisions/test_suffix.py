import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import SumQuantizer

import semid

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
