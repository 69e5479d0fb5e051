import re

import numpy as np
import pytest

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers.checks import (
    auto_codebook_size,
    check_init,
    check_unchanged,
    is_auto,
    sample_rows,
    sizes_for,
    sizes_for_batches,
)


@pytest.mark.parametrize(
    "call, error, text",
    [
        (
            lambda: check_init("pca"),
            InvalidValueError,
            "init is unknown: expected 'progressive', 'k-means++', 'random', got 'pca'. Choose one of them.",
        ),
        (
            lambda: check_init(["k-means++"]),
            InvalidTypeError,
            "init has a wrong type: expected 'progressive', 'k-means++', 'random', got list. Choose one of",
        ),
        (lambda: check_init(np.zeros(2)), InvalidTypeError, "init has a wrong type"),
        (lambda: check_init(None), InvalidValueError, "init is unknown"),
        (
            lambda: check_unchanged({"n_levels": 3}, {"n_levels": 2}),
            InvalidValueError,
            "n_levels is not that of the fit: expected 2, got 3. Set it back with set_params, or call fit.",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()


@pytest.mark.parametrize("n_items", [64, 5_000, 1_000_000])
def test_auto_follows_the_number_of_items(n_items):
    assert is_auto("auto") and sizes_for("auto", 3, n_items=n_items) == (auto_codebook_size(n_items, 3),) * 3


def test_numbers_stay_whatever_the_number_of_items():
    assert not is_auto(16)
    assert sizes_for(16, 2, n_items=10) == sizes_for((16, 16), 2, n_items=None) == sizes_for_batches(16, 2) == (16, 16)


def test_batches_need_numbers():
    with pytest.raises(InvalidValueError, match="expected an integer or one per level, got 'auto', which needs the"):
        sizes_for_batches("auto", 3)
    with pytest.raises(InvalidTypeError, match="expected an integer or one per level, got 'automatic'"):
        sizes_for_batches("automatic", 3)


def sample(n_items, sizes, sample_size=None):
    return sample_rows(n_items, sizes, sample_size=sample_size, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "n_items, size, expected",
    [
        (1000, 8, 1000),
        (200_000, 8, 131_072),
        (300_000, 512, 262_144),
        (400_000, 4096, 262_144),
        (400_000, 10_000, 320_000),
    ],
)
def test_default_sample_size(n_items, size, expected):
    rows = sample(n_items, (2, size))
    assert len(rows) == expected
    assert (np.diff(rows) > 0).all() and rows[0] >= 0 and rows[-1] < n_items


def test_given_sample_size():
    assert len(sample(500, (8,), sample_size=100)) == 100
    np.testing.assert_array_equal(sample(50, (8,), sample_size=100), np.arange(50))


@pytest.mark.parametrize(
    "n_items, sample_size, text",
    [
        (
            10,
            None,
            "too few items for level 1: expected at least 12, its codebook_size, got n_samples=10. Give more items, "
            "lower codebook_size, or set it to 'auto'.",
        ),
        (
            50,
            11,
            "sample_size is too small for level 1: expected at least 12, its codebook_size, got 11. Raise sample_size",
        ),
    ],
)
def test_too_few_rows_are_refused(n_items, sample_size, text):
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        sample(n_items, (4, 12), sample_size)


def test_a_codebook_has_more_than_one_code_wherever_there_are_two_items():
    assert [auto_codebook_size(n_items, 3) for n_items in (1, 2, 31, 63, 64, 127, 128)] == [1, 2, 2, 2, 2, 2, 4]


def test_auto_sizes_leave_32_items_per_code_and_room_for_ids():
    for n_items in (1, 31, 32, 100, 5000, 10**5, 10**6, 10**8):
        for n_levels in (1, 2, 3, 4):
            size = auto_codebook_size(n_items, n_levels)
            assert size & (size - 1) == 0 and 1 <= size <= 65_536
            assert size <= 2 or 32 * size <= n_items
            assert size == min(2, n_items) or size > 2
            assert size >= min(256, n_items // 64)
    assert [auto_codebook_size(10**6, n_levels) for n_levels in (2, 3, 4)] == [16_384, 512, 256]


def test_numbers_of_numpy_mean_the_same_and_huge_ones_are_refused():
    """A tuple times an array of one number is a product, not a repetition."""
    X = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    expected = semid.ResidualKMeans(n_levels=2, codebook_size=4).fit(X).encode(X)
    for n_levels in (np.array(2), np.uint64(2), np.int8(2)):
        found = semid.ResidualKMeans(n_levels=n_levels, codebook_size=np.int8(4)).fit(X)
        np.testing.assert_array_equal(found.encode(X), expected)
    with pytest.raises(InvalidValueError, match="n_levels is too large: expected at most 1024, got 1099511627776"):
        semid.ResidualKMeans(n_levels=2**40, codebook_size=4).fit(X)
    with pytest.raises(InvalidValueError, match="count is too large: expected at most 1048576, got 1099511627776"):
        found.candidates(X, count=2**40, beam=4)
