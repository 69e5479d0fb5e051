import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import alive_children_oracle, prefix_range_oracle
from strategies import SHARED_FIXTURE, prefixes_of, ranges_of, tries

import semid
from semid.trie import levels as reading


@given(catalogue=tries())
def test_all_codes_are_the_sorted_rows(catalogue):
    codes, _, build = catalogue
    trie = build()
    ordered = sorted(map(tuple, codes.tolist()))
    everything = reading.all_codes(trie._levels)
    assert list(map(tuple, everything.tolist())) == ordered
    assert (reading.codes_of(trie._levels, np.arange(len(codes))) == everything).all()
    assert everything.dtype == trie._levels.child_codes.dtype
    half = trie.restrict(np.arange(len(codes)) % 2 == 0)
    found = [piece.tolist() for piece in reading.pieces(half._levels, half._alive)]
    assert [tuple(row) for piece in found for row in piece] == ordered[::2]


CODES = np.array([[0, 2, 1], [0, 3, 0], [1, 2, 0], [1, 2, 5]], np.uint8)


@SHARED_FIXTURE
@given(data=st.data(), catalogue=tries())
def test_a_view_offers_only_what_leads_to_an_item(backend, data, catalogue):
    codes, _, build = catalogue
    whole = build()
    alive = data.draw(ranges_of(len(codes)))
    view = whole.restrict(sorted(alive, reverse=True))
    assert (view.n_items, view.n_ranks, len(view)) == (len(alive), len(codes), len(alive))
    assert view.ranks().tolist() == sorted(alive)
    for prefix in prefixes_of(codes):
        assert view.prefix_range(prefix) == whole.prefix_range(prefix)  # also where nothing below can be reached
        assert view.children(prefix).tolist() == sorted(alive_children_oracle(codes, alive, prefix))
        low, high = prefix_range_oracle(codes, prefix)
        reached = view.walk(np.array(prefix, np.int64)[None])[0]
        assert reached == (whole.walk(np.array(prefix, np.int64)[None])[0] if alive & set(range(low, high)) else -1)
    ordered = sorted(map(tuple, codes.tolist()))
    assert list(view) == [ordered[rank] for rank in sorted(alive)]
    assert view.rank(ordered).tolist() == [rank if rank in alive else -1 for rank in range(len(codes))]
    assert (view.codes_of(np.arange(len(codes))) == ordered).all()


@SHARED_FIXTURE
@given(data=st.data(), catalogue=tries())
def test_restrictions_compose_in_any_order_and_form(backend, data, catalogue):
    codes, sizes, build = catalogue
    whole, one, two = build(), *(data.draw(ranges_of(len(codes))) for _ in range(2))
    masks = [np.isin(np.arange(len(codes)), list(ranks)) for ranks in (one, two)]
    both = whole.restrict(masks[0]).restrict(list(two))
    assert both == whole.restrict(masks[1]).restrict(list(one)) == whole.restrict(masks[0] & masks[1])
    assert both.ranks().tolist() == sorted(one & two)
    if one & two:  # equal to a trie of the items alone
        assert both == semid.Trie.from_codes(whole.codes_of(both.ranks()), codebook_sizes=sizes)


def test_a_view_shares_the_arrays_and_leaves_the_trie_alone(backend):
    trie = semid.Trie.from_codes(CODES)
    view = trie.restrict(trie.prefix_range((1,)))
    assert repr(view) == "Trie(n_items=2 of 4, n_levels=3, codebook_sizes=(2, 4, 6))"
    assert np.shares_memory(view._levels.child_codes, trie._levels.child_codes)
    assert trie.n_items == 4 and trie.children(()).tolist() == [0, 1] and view.children(()).tolist() == [1]


@pytest.mark.parametrize("n_items", [63, 64, 65, 128])
def test_the_last_word_of_the_bits(backend, n_items):
    trie = semid.Trie.from_codes(np.arange(n_items)[:, None])
    view = trie.restrict(np.arange(n_items) >= n_items - 2)
    assert view.children(()).tolist() == [n_items - 2, n_items - 1]
    assert trie.restrict(np.ones(n_items, bool)) == trie


def test_nothing_left_is_an_empty_result(backend):
    view = semid.Trie.from_codes(CODES).restrict(np.zeros(4, bool))
    assert len(view) == 0 and list(view) == [] and view.children(()).tolist() == [] and view.rank(CODES[0]) == -1
    out = view.select(np.zeros((1, 1, 2)), [[0]], [[0]], depth=0, k=2)
    assert (out.nodes == -1).all() and (out.scores == -np.inf).all()


def test_a_range_has_those_that_a_restriction_removes(backend):
    view = semid.Trie.from_codes(CODES).restrict([3])
    assert view.prefix_range([0]) == range(2) and view.prefix_range([0, 3, 0]) == range(1, 2)
    assert view.prefix_range([7]) == range(0)
