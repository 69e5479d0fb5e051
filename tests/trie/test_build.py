"""Building: every order and dtype, repeated rows, every layout of keys, few bytes."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import SHARED_FIXTURE

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie import build, sorting


def test_equal_rows_become_one_item_and_say_so(backend):
    codes = np.array([[0, 2], [0, 3], [1, 2], [0, 2]])
    with pytest.warns(semid.trie.DuplicateCodesWarning, match=r"1 of 4 rows repeat another row: the trie has 3 items"):
        trie = semid.Trie.from_codes(codes)
    assert list(trie) == [(0, 2), (0, 3), (1, 2)]


@SHARED_FIXTURE
@pytest.mark.filterwarnings("ignore::semid.trie.DuplicateCodesWarning")
@given(
    rows=st.lists(st.tuples(*[st.integers(0, 1)] * 3, *[st.integers(0, 2**31)] * 3), min_size=1, max_size=30),
    repeats=st.integers(1, 3),
)
def test_rows_longer_than_a_key_are_sorted_and_distinct(backend, rows, repeats):
    """Of 96 bits: rows are equal in their key and differ behind it, or do not."""
    trie = semid.Trie.from_codes(np.array(rows * repeats))
    assert list(trie) == sorted(set(rows))


# Bits of all levels: 12, 24, 39, 64, 88 and 256. Codes crowd at 0, so that buckets hold one row or thousands.
SIZES = [(3, 2, 300), (256, 256, 256), (60_000, 7, 9, 8192), (2**16,) * 4, (2048,) * 8, (2**32,) * 8]


@pytest.mark.filterwarnings("ignore::semid.trie.DuplicateCodesWarning")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("skew", [1, 4, 40])
def test_a_large_catalogue_is_sorted_and_distinct(backend, rng, sizes, skew):
    codes = np.stack([(size * rng.random(20_000) ** skew).astype(np.int64) for size in sizes], axis=1)
    trie = semid.Trie.from_codes(np.concatenate([codes, codes[:500]]), codebook_sizes=sizes)
    assert (trie.codes_of(np.arange(trie.n_items)) == np.unique(codes, axis=0)).all()


@pytest.mark.parametrize("n_rows", [1, 2, 31, 32, 33, 70_000, 2**21, 2**32 - 1])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_key_has_room_for_what_its_bucket_does_not_say(sizes, n_rows):
    bits = np.array([(size - 1).bit_length() for size in sizes])
    n_key, n_low, n_position, dtype = sorting._layout(bits, n_rows)
    n_bits = int(bits[:n_key].sum())
    assert n_key == len(sizes) or 2**n_position >= n_rows
    assert n_low <= n_bits <= 64 and n_low + n_position <= 8 * np.dtype(dtype).itemsize
    assert 2 ** (n_bits - n_low) <= max(1, min(n_rows, 2**16))


def test_too_many_rows_tell_the_remedy():
    codes = np.broadcast_to(np.zeros((1, 1), np.uint8), (2**32, 1))
    with pytest.raises(InvalidValueError, match=r"at most 4294967295, got 4294967296\. Build a trie of each part"):
        sorting.sort_keys(codes, (2,))


@pytest.mark.filterwarnings("ignore::semid.trie.DuplicateCodesWarning")
@pytest.mark.parametrize("sizes", [(256,) * 4, (8192,) * 3, (2048,) * 8], ids=str)
def test_building_takes_no_more_than_twice_the_trie(backend, rng, sizes):
    codes = np.stack([rng.integers(0, size, 300_000, np.uint16) for size in sizes], axis=1)
    semid.Trie.from_codes(codes, codebook_sizes=sizes)  # a compiler's memory is not ours
    tracemalloc.start()
    try:
        trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2 * trie.nbytes


def test_any_order_of_axes_and_any_integer(rng):
    codes = rng.integers(0, 100, (500, 3))
    codes = np.unique(codes, axis=0)
    trie = semid.Trie.from_codes(codes)
    for other in (np.asfortranarray(codes), codes.astype(np.int8), codes[::-1].astype(np.uint32), codes.tolist()):
        assert semid.Trie.from_codes(other) == trie


@pytest.mark.parametrize("items_per_edge", [1, 8])
def test_single_tails_cost_their_codes_and_a_bit_per_level(monkeypatch, rng, items_per_edge):
    monkeypatch.setattr(build, "ITEMS_PER_EDGE", items_per_edge)
    codes = np.concatenate([np.arange(64)[:, None], rng.integers(0, 256, (64, 7))], axis=1)
    levels = semid.Trie.from_codes(codes)._levels
    flat = 8 - levels.n_explicit
    assert levels.child_codes.nbytes == 64 * 8 and levels.forks.nbytes == (flat - 1) * 8


@pytest.mark.parametrize("sizes", [(256,) * 4, (8192,) * 3, (2048,) * 8])
def test_a_trie_is_smaller_than_its_codes_and_pointers(rng, sizes):
    """A uint16 code per level and item, and a quarter of a byte; a catalogue of 20,000 is the worst case."""
    codes = np.unique(np.stack([rng.integers(0, size, 20_000) for size in sizes], axis=1), axis=0)
    trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    assert (
        trie.nbytes <= len(codes) * (len(sizes) * np.min_scalar_type(sizes[0] - 1).itemsize + len(sizes) / 8) + 20_000
    )


def test_one_codebook_size_holds_for_all_levels(backend):
    codes = np.array([[0, 1, 3], [2, 0, 0]])
    for size in (4, np.int32(4)):
        assert semid.Trie.from_codes(codes, codebook_sizes=size).codebook_sizes == (4, 4, 4)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        (
            [4.9, 4.2],
            InvalidTypeError,
            r"codebook_sizes\[0\] is not an integer: expected 1 or more, got 4\.9\. Pass a whole number",
        ),
        (4.5, InvalidTypeError, r"codebook_sizes has a wrong type: .*, got 4\.5"),
        ("ab", InvalidTypeError, "got 'ab'"),
        ([2**40, 2], InvalidValueError, r"expected at most 4294967296, got 1099511627776\. Codes have 32 bits"),
        ([4], InvalidValueError, r"expected one size for each of 2 levels, got 1\. Give one size per level"),
        (1, InvalidValueError, "expected codes below 1 at level 1, got 1"),
        ([0, 2], InvalidValueError, r"codebook_sizes\[0\] is too small: expected 1 or more, got 0"),
    ],
)
def test_bad_codebook_sizes(backend, sizes, error, message):
    with pytest.raises(error, match=message):
        semid.Trie.from_codes([[0, 1]], codebook_sizes=sizes)
