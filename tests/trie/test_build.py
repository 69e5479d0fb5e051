"""Building: every order and dtype, repeated rows, large catalogues in parts, few bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import semid
from semid.trie import build, sorting


def test_equal_rows_become_one_item_and_say_so(backend):
    codes = np.array([[0, 2], [0, 3], [1, 2], [0, 2]])
    with pytest.warns(semid.trie.DuplicateCodesWarning, match=r"1 of 4 rows repeat another row: the trie has 3 items"):
        trie = semid.Trie.from_codes(codes)
    assert list(trie) == [(0, 2), (0, 3), (1, 2)]


@pytest.mark.filterwarnings("ignore::semid.trie.DuplicateCodesWarning")
@given(
    rows=st.lists(st.tuples(*[st.integers(0, 1)] * 3, *[st.integers(0, 2**31)] * 3), min_size=1, max_size=30),
    repeats=st.integers(1, 3),
)
def test_rows_longer_than_a_key_are_sorted_and_distinct(rows, repeats):
    """Of 96 bits: rows are equal in their key and differ behind it, or do not."""
    trie = semid.Trie.from_codes(np.array(rows * repeats))
    assert list(trie) == sorted(set(rows))


@pytest.mark.filterwarnings("ignore::semid.trie.DuplicateCodesWarning")
@pytest.mark.parametrize("sizes", [(256, 256, 256), (60_000, 7, 9), (3, 2, 2)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
def test_a_catalogue_sorted_in_parts_is_the_same(monkeypatch, rng, sizes, dtype):
    codes = np.stack([(size * rng.random(20_000) ** 3).astype(dtype) for size in sizes], axis=1)
    whole = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    monkeypatch.setattr(sorting, "LARGE", 5_000)
    monkeypatch.setattr(sorting, "PIECE", 700)
    parts = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    assert all((one == other).all() for one, other in zip(whole._levels, parts._levels, strict=True))


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
