"""Token ids to codes, against a dictionary."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from semid.vocabulary.lookup import SPARSEST, Lookup, Tables

NEAR = st.integers(0, 40)
FAR = st.integers(0, 2**62)
ANY = st.one_of(NEAR, FAR, st.integers(-(2**63), 2**63 - 1))


@given(
    tokens=st.one_of(st.lists(NEAR, min_size=1, unique=True), st.lists(FAR, min_size=1, max_size=30, unique=True)),
    asked=st.lists(ANY, max_size=30),
)
def test_the_codes_are_those_of_a_dictionary(tokens, asked):
    lookup = Lookup.of(np.array(tokens))
    by_token = {token: code for code, token in enumerate(tokens)}
    edges = [token + step for token in tokens for step in (-1, 0, 1)]
    for given_ in (asked, edges):
        found = lookup.codes_of(np.array(given_, np.int64))
        assert found.dtype == np.int64 and found.tolist() == [by_token.get(token, -1) for token in given_]


def test_a_table_is_only_made_where_tokens_lie_close_together():
    close, apart = np.array([0, 2 * SPARSEST - 1]), np.array([0, 2 * SPARSEST])
    assert len(Lookup.of(close).table) == 2 * SPARSEST + 2 and len(Lookup.of(apart).table) == 0
    for tokens in (close, apart):
        assert Lookup.of(tokens).codes_of(tokens[::-1]).tolist() == [1, 0]


def test_any_integers_of_any_shape():
    lookup = Lookup.of(np.array([7, 3]))
    for dtype in (np.int32, np.uint8, np.uint64):
        assert lookup.codes_of(np.array([[3, 7], [0, 255]], dtype)).tolist() == [[1, 0], [-1, -1]]
    assert lookup.codes_of(np.array([2**64 - 1, 2**63], np.uint64)).tolist() == [-1, -1]
    assert lookup.codes_of(np.empty((2, 0), np.int64)).shape == (2, 0)


def test_the_tables_of_levels_are_joined_where_all_have_one():
    close, apart = Lookup.of(np.array([8, 5])), Lookup.of(np.array([0, 2 * SPARSEST]))
    tables = Tables.of([close, close])
    assert [part.tolist() for part in tables] == [[5, 5], [0, 4, 8], [1, -1, -1, 0, 1, -1, -1, 0]]
    assert [part.dtype for part in tables] == [np.int64, np.int64, np.int32]
    assert not any(part.flags.writeable for part in tables)
    assert Tables.of([close, apart]) is None and Tables.of([]) is None
