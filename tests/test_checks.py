"""Whole numbers, codebook sizes and quantizers."""

from types import SimpleNamespace

import numpy as np
import pytest

from semid._checks import check_count, check_quantizer, check_sizes, has_member
from semid.errors import InvalidTypeError, InvalidValueError


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)], ids=repr)
def test_whole_numbers_of_any_type_become_int(value):
    assert type(check_count(value, "sample")) is int and check_count(value, "sample") == 3
    assert check_sizes([value, 4]) == (3, 4)


@pytest.mark.parametrize("value", [1.5, None, "1", True, np.bool_(True), [1], np.array([1]), 1j], ids=repr)
def test_other_types_are_no_whole_numbers(value):
    with pytest.raises(
        InvalidTypeError, match=r"sample is not an integer: expected 1 or more, got .*\. Pass a whole n"
    ):
        check_count(value, "sample")
    with pytest.raises(InvalidTypeError, match=r"codebook_sizes\[1\] has a wrong type: expected an integer, got "):
        check_sizes([256, value])


def test_numbers_below_the_least_are_too_small():
    assert check_count(0, "seed", least=0) == 0
    with pytest.raises(InvalidValueError, match=r"seed is too small: expected 0 or more, got -1\. Raise it\."):
        check_count(-1, "seed", least=0)


@pytest.mark.parametrize("sizes", [16, "ab", b"ab", None, np.array(4)], ids=repr)
def test_sizes_are_a_sequence(sizes):
    with pytest.raises(
        InvalidTypeError, match=r"codebook_sizes has a wrong type: expected a sequence of integers, got"
    ):
        check_sizes(sizes)


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
