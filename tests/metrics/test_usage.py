import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import entropy_oracle, gini_oracle, prefix_purity_oracle

from semid.errors import InvalidTypeError, InvalidValueError
from semid.metrics.usage import (
    check_code_table,
    check_labels,
    code_counts,
    entropy_bits,
    gini,
    group_sizes,
    prefix_keys,
    prefix_purity,
)


def test_sizes_are_observed_when_not_given():
    codes, sizes = check_code_table([[0, 7], [3, 300]])
    assert sizes == (4, 301)
    assert codes.dtype == np.uint16


def test_the_largest_code_of_a_dtype_does_not_overflow():
    assert check_code_table(np.array([[255]], dtype=np.uint8))[1] == (256,)


@pytest.mark.parametrize("codes", [[1, 2], np.zeros((0, 3), dtype=np.uint8), np.zeros((3, 0), dtype=np.uint8), 5])
def test_wrong_shape(codes):
    message = r"codes have a wrong shape: expected \(n_items, n_levels\) with at least one item, got \(.*\)\. Pass what"
    with pytest.raises(InvalidValueError, match=message):
        check_code_table(codes)


def test_ragged_codes():
    with pytest.raises(
        InvalidValueError, match=r"codes is ragged: expected rows of one length, got list \(.*\. Pad or repair it"
    ):
        check_code_table([[1], [1, 2]])


def test_wrong_dtype():
    with pytest.raises(InvalidTypeError, match=r"ids has a wrong dtype: expected integers, got float64\. Pass what"):
        check_code_table([[0.5]], name="ids")


def test_negative_code():
    with pytest.raises(InvalidValueError, match=r"expected 0 to 0 at level 0, got -1 in row 0"):
        check_code_table([[-1]])


def test_code_beyond_its_codebook():
    with pytest.raises(InvalidValueError, match=r"expected 0 to 3 at level 1, got 4 in row 1"):
        check_code_table([[0, 3], [0, 4]], (4, 4))


@pytest.mark.parametrize("code", [2**26, 2**40, 2**63])
def test_codes_too_large_to_count(code):
    message = rf"codes are too large to count: expected at most 67108864 codes per level, got {code + 1} at level 1\."
    with pytest.raises(InvalidValueError, match=message):
        check_code_table(np.array([[0, code]], dtype=np.uint64))
    with pytest.raises(InvalidValueError, match=message):
        check_code_table([[0, 0]], (1, code + 1))


def test_counts_include_dead_codes():
    first, second = code_counts(*check_code_table([[0, 2], [0, 1], [2, 2]], (4, 3)))
    np.testing.assert_array_equal(first, [2, 0, 1, 0])
    np.testing.assert_array_equal(second, [0, 1, 2])
    assert first.dtype == np.int64


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_entropy_agrees_with_oracle(column):
    counts = np.bincount(column)
    assert entropy_bits(counts) == pytest.approx(entropy_oracle(column), abs=1e-12)


def test_entropy_of_even_and_of_one_code():
    assert entropy_bits(np.full(8, 3)) == 3.0
    assert str(entropy_bits(np.array([0, 5]))) == "0.0"


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any))
def test_gini_agrees_with_oracle(counts):
    assert gini(np.array(counts)) == pytest.approx(gini_oracle(counts), abs=1e-12)


def test_gini_of_even_and_of_one_code():
    assert gini(np.full(7, 3)) == 0.0
    assert gini(np.array([0, 0, 0, 8])) == 0.75


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=40))
def test_groups_agree_with_counting_rows(rows):
    expected = [rows.count(row) for row in sorted(set(rows))]
    np.testing.assert_array_equal(group_sizes(*check_code_table(rows)), expected)


def test_groups_of_codes_too_many_for_one_integer(rng):
    # 8 x 65,536 codes: 2^128 rows are possible, so the keys must be renumbered on the way.
    distinct = rng.integers(0, 65_536, (50, 8))
    codes = np.repeat(distinct, 3, axis=0)
    np.testing.assert_array_equal(group_sizes(*check_code_table(codes, (65_536,) * 8)), np.full(50, 3))


@pytest.mark.parametrize("sizes", [(4, 4, 4), (2**31, 2**31, 2**31)], ids=["packed", "renumbered"])
def test_keys_of_prefixes_order_items_as_their_codes_do(rng, sizes):
    codes = rng.integers(0, 4, (60, 3)).astype(np.uint32)
    for level, keys in enumerate(prefix_keys(codes, sizes)):
        prefixes = [tuple(row) for row in codes[:, : level + 1].tolist()]
        assert len(set(zip(keys.tolist(), prefixes, strict=True))) == len(set(prefixes)) == len(set(keys.tolist()))
        by_key = [prefixes[item] for item in np.argsort(keys, kind="stable")]
        assert by_key == sorted(prefixes)


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3, st.sampled_from(["hair", "nails", "", "ä"])), min_size=1))
def test_purity_agrees_with_oracle(rows):
    codes, labels = [row[:3] for row in rows], [row[3] for row in rows]
    found = prefix_purity(*check_code_table(codes), check_labels(labels, n_items=len(rows)))
    assert found == pytest.approx([prefix_purity_oracle(codes, labels, depth) for depth in (1, 2, 3)], abs=1e-12)


def test_purity_never_falls_with_depth(rng):
    codes, labels = rng.integers(0, 3, (200, 4)), rng.integers(0, 5, 200)
    found = prefix_purity(*check_code_table(codes), check_labels(labels, n_items=200))
    assert (np.diff(found) >= 0).all()


def test_one_label_is_pure():
    assert prefix_purity(*check_code_table([[0, 1], [0, 2]]), check_labels(["a", "a"], n_items=2)).tolist() == [1, 1]


@pytest.mark.parametrize("labels", [[1, 1, 2], ["1", "1", "2"], np.array([1, 1, 2]), (True, True, None)], ids=repr)
def test_labels_are_compared_as_text(labels):
    names = check_labels(labels, n_items=3)
    assert names.dtype.kind == "U" and names[0] == names[1] != names[2]


@pytest.mark.parametrize("last", [["c"], ["a", "c"]], ids=["ragged", "of one length"])
def test_a_list_is_one_label(last):
    labels = [["a", "b"], ["a", "b"], last]
    as_objects = np.empty(3, dtype=object)
    as_objects[:] = labels
    for each in (labels, as_objects):
        first, second, third = check_labels(each, n_items=3)
        assert first == second != third


def test_labels_are_checked():
    with pytest.raises(
        InvalidValueError, match=r"labels and codes disagree: expected 3 labels, got 2\. Pass one label"
    ):
        check_labels(["a", "b"], n_items=3)
    with pytest.raises(InvalidValueError, match=r"labels have a wrong shape: expected \(2,\), got \(2, 1\)\. Pass one"):
        check_labels(np.array([["a"], ["b"]]), n_items=2)
