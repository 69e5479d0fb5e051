"""Whole numbers, codebook sizes, arrays, item ids, views and quantizers."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from semid._checks import (
    as_array,
    as_ids,
    as_integers,
    check_count,
    check_id_types,
    check_integer,
    check_quantizer,
    check_ranks,
    check_shared_codes,
    check_sizes,
    check_view_names,
    check_views,
    has_member,
    shown,
)
from semid.errors import InvalidTypeError, InvalidValueError


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)], ids=repr)
def test_whole_numbers_of_any_type_become_int(value):
    assert type(check_count(value, "sample")) is int and check_count(value, "sample") == 3
    assert type(check_integer(value, "sample")) is int and check_integer(value, "sample") == 3
    assert check_sizes([value, 4]) == (3, 4)


@pytest.mark.parametrize("value", [1.5, None, "1", True, np.bool_(True), [1], np.array([1]), 1j], ids=repr)
def test_other_types_are_no_whole_numbers(value):
    with pytest.raises(
        InvalidTypeError, match=r"sample is not an integer: expected 1 or more, got .*\. Pass a whole n"
    ):
        check_count(value, "sample")
    with pytest.raises(InvalidTypeError, match=r"sample has a wrong type: expected an integer, got .*\. Pass a whole"):
        check_integer(value, "sample")
    with pytest.raises(InvalidTypeError, match=r"codebook_sizes\[1\] is not an integer: expected 1 or more, got "):
        check_sizes([256, value])


def test_numbers_below_the_least_are_too_small():
    assert check_count(0, "seed", least=0) == 0
    with pytest.raises(InvalidValueError, match=r"seed is too small: expected 0 or more, got -1\. Raise it\."):
        check_count(-1, "seed", least=0)


def test_numbers_above_the_most_are_too_large():
    assert check_count(2**64 - 1, "seed", least=0, most=2**64 - 1) == 2**64 - 1
    with pytest.raises(InvalidValueError, match=rf"seed is too large: expected at most {2**64 - 1}, got {2**64}\. Low"):
        check_count(2**64, "seed", least=0, most=2**64 - 1)


@pytest.mark.parametrize("sizes", [16, "ab", b"ab", None, np.array(4), {4: 1}, {4}, iter([4])], ids=repr)
def test_sizes_are_a_sequence(sizes):
    with pytest.raises(
        InvalidTypeError, match=r"codebook_sizes has a wrong type: expected a sequence of integers, got"
    ):
        check_sizes(sizes)


@pytest.mark.parametrize("sizes", [8, np.int64(8), [8, 8, 8], (8, 8, 8), np.array([8, 8, 8])], ids=repr)
def test_one_size_or_one_per_level(sizes):
    assert check_sizes(sizes, n_levels=3) == (8, 8, 8)


@pytest.mark.parametrize(
    "sizes, error, text",
    [
        ((8, 8), InvalidValueError, "a wrong length: expected one size for each of 3 levels, got 2. Give one size"),
        ((8, 0, 8), InvalidValueError, "codebook_size[1] is too small: expected 1 or more, got 0. Raise it."),
        (0, InvalidValueError, "codebook_size is too small: expected 1 or more, got 0. Raise it."),
        (
            "88",
            InvalidTypeError,
            "a wrong type: expected an integer or one per level, got '88'. Write [256, 256, 256].",
        ),
        (None, InvalidTypeError, "expected an integer or one per level, got None."),
        (True, InvalidTypeError, "expected an integer or one per level, got True."),
        (2.5, InvalidTypeError, "expected an integer or one per level, got 2.5."),
    ],
    ids=repr,
)
def test_wrong_sizes_for_so_many_levels(sizes, error, text):
    with pytest.raises(error, match=re.escape(text)):
        check_sizes(sizes, "codebook_size", n_levels=3)


def test_no_level_at_all_is_refused():
    with pytest.raises(InvalidValueError, match=r"codebook_sizes is empty: expected at least one level, got none\."):
        check_sizes([])


def test_arrays_come_from_lists_and_tensors():
    assert as_array([[1, 2]], "codes").tolist() == as_array(torch.tensor([[1, 2]]), "codes").tolist() == [[1, 2]]
    with pytest.raises(InvalidValueError, match=r"codes is ragged: expected rows of one length, got list .*\. Pad or"):
        as_array([[1], [1, 2]], "codes")


def test_no_integers_at_all_are_integers():
    assert as_integers([], "nodes").dtype == np.int64
    assert as_integers(np.array([3], np.uint8), "nodes").dtype == np.uint8
    with pytest.raises(
        InvalidTypeError, match=r"nodes has a wrong dtype: expected integers, got float64\. Round them\."
    ):
        as_integers([0.5], "nodes", remedy="Round them.")


def test_ranks_of_any_shape():
    assert check_ranks([[0, 2], [1, 1]], n_items=3).tolist() == [[0, 2], [1, 1]]
    assert check_ranks([0, -1], n_items=3, least=-1).tolist() == [0, -1]
    for wrong, got in ([0, -1], "-1"), ([3], "3"), (np.array([2**64 - 1], np.uint64), f"{2**64 - 1}"):
        with pytest.raises(
            InvalidValueError, match=rf"ranks holds a rank out of range: expected 0 \.\. 2, got {got}\. Take ranks"
        ):
            check_ranks(wrong, n_items=3)


def test_kinds_of_as_ids():
    assert as_ids(np.array([1, 2], np.uint64)).dtype == np.int64
    assert as_ids([np.int8(1), 2]).dtype == np.int64
    assert as_ids(torch.tensor([1, 2])).tolist() == [1, 2]
    for mixed in ([1, "a"], [True], [2**63], [], ["a"], [1.0], [1, np.uint64(2**63)]):
        assert as_ids(mixed) == mixed


@pytest.mark.parametrize("item_ids", ["abc", b"abc", 3, None], ids=repr)
def test_one_id_is_no_sequence(item_ids):
    with pytest.raises(InvalidTypeError, match="item_ids have a wrong type: expected a sequence of ids, got the"):
        as_ids(item_ids)


@pytest.mark.parametrize("item_ids", [{1, 2}, frozenset("ab")], ids=repr)
def test_a_set_of_ids_is_refused_because_its_order_is_arbitrary(item_ids):
    with pytest.raises(
        InvalidTypeError, match=r"item_ids have no order: expected a sequence of ids, .*, got a \w*set\."
    ):
        as_ids(item_ids)


@pytest.mark.parametrize(
    "item_ids",
    [
        ["0", "1", 7], np.array(["0", "1", 7], dtype=object), [0.0, 1.0, 2.0], np.array([True, False, True]),
        [[1], [2], [3]], [b"a", b"b", b"c"], [None, "a", "b"],
    ],
    ids=repr,
)  # fmt: skip
def test_ids_are_all_int_or_all_str(item_ids):
    with pytest.raises(
        InvalidTypeError, match=r"item_ids have wrong types: expected all int or all str, got .*\. Conv"
    ):
        check_id_types(as_ids(item_ids))


def test_the_first_few_values_are_shown():
    assert shown(np.arange(5)) == "[0, 1, 2, 3, 4]" and shown(list("abcdefg")) == "['a', 'b', 'c', 'd', 'e'] and 2 more"


@pytest.mark.parametrize(
    "views, error, text",
    [
        (
            "ab",
            InvalidTypeError,
            "views have a wrong type: expected a sequence of names, got 'ab'. Pass a tuple of str.",
        ),
        ([1], InvalidTypeError, "expected a sequence of names, got [1]."),
        ((), InvalidValueError, "views are wrong: expected one or more different names, got (). Name each view once."),
        (("a", "a"), InvalidValueError, "expected one or more different names, got ('a', 'a')."),
    ],
    ids=repr,
)
def test_views_are_different_names(views, error, text):
    assert check_views(name for name in "ab") == ("a", "b")
    with pytest.raises(error, match=re.escape(text)):
        check_views(views)


def test_views_given_are_those_of_the_quantizer():
    check_view_names({"b": 1, "a": 2}, ("a", "b"), name="X")
    with pytest.raises(
        InvalidTypeError, match=r"X is not a mapping: expected one array for each of 'a', 'b', got list"
    ):
        check_view_names([1, 2], ("a", "b"), name="X")
    with pytest.raises(InvalidValueError, match=r"X has no view 'b': expected 'a', 'b', got 'a', 'c'\. Correct the"):
        check_view_names({"a": 1, "c": 2}, ("a", "b"), name="X")
    with pytest.raises(InvalidValueError, match=r"X has an unknown view 'c': expected 'a', got 'a', 'c'\."):
        check_view_names({"a": 1, "c": 2}, ("a",), name="X")


def test_shared_levels_are_the_same_in_all_views():
    codes = {"a": np.array([[1, 2], [3, 4]]), "b": np.array([[1, 7], [3, 8]])}
    check_shared_codes(codes, 1)
    text = r"codes of views 'a' and 'b' disagree in the shared levels of row 0: expected \[1, 2\], got \[1, 7\]\."
    with pytest.raises(InvalidValueError, match=text):
        check_shared_codes(codes, 2)
    with pytest.raises(InvalidValueError, match=r"taken of views 'a' and 'b' disagree: expected 2 rows, got 1\. Row i"):
        check_shared_codes(codes | {"b": codes["b"][:1]}, 1, name="taken")


class Lazy:
    @property
    def codebooks(self):
        raise AttributeError("not fitted yet")


class Wrapper:
    def __getattr__(self, name):
        if name == "codebooks":
            return ()
        raise AttributeError(name)


@pytest.mark.parametrize(
    "quantizer", [Lazy(), Wrapper(), SimpleNamespace(codebooks=())], ids=["lazy", "wrapper", "own"]
)
def test_members_may_come_from_anywhere_and_need_no_value_yet(quantizer):
    check_quantizer(quantizer, ["codebooks"])
    assert has_member(quantizer, "codebooks") and not has_member(quantizer, "decode")
    name = type(quantizer).__name__
    with pytest.raises(InvalidTypeError, match=rf"expected a fitted quantizer, got {name}, which has no decode\. Pass"):
        check_quantizer(quantizer, ["codebooks", "decode"])


def test_a_class_is_no_quantizer():
    with pytest.raises(InvalidTypeError, match=r"got the class Lazy\. Pass Lazy\(\.\.\)\.fit\(X\)\."):
        check_quantizer(Lazy, ["codebooks"])
