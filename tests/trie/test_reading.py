"""Codes read out of the arrays, however many levels are explicit."""

import numpy as np
from hypothesis import given
from strategies import tries

from semid.trie import reading


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
