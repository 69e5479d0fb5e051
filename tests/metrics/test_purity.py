import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import prefix_purity_oracle

from semid.errors import InvalidValueError
from semid.metrics.purity import check_labels, prefix_purity
from semid.metrics.usage import check_code_table


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
