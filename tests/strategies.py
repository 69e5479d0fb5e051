"""What hypothesis draws: catalogues of unique codes, and tries of them in every layout."""

from unittest import mock

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import semid

# The back end of a test is the same for all of its examples.
SHARED_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def catalogues(draw, max_items=60):
    """Distinct codes in random order, with the codebook sizes they were drawn from."""
    sizes = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 7, 300]), min_size=1, max_size=5)))
    row = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    return np.array(draw(st.lists(row, min_size=1, max_size=max_items, unique=True))), sizes


@st.composite
def tries(draw, max_items=60):
    """Codes, their sizes, and a function that builds their trie with few, the usual or many explicit levels."""
    codes, sizes = draw(catalogues(max_items))
    items_per_edge = draw(st.sampled_from([1, 2, 8, 10**9]))

    def build():
        with mock.patch("semid.trie.build.ITEMS_PER_EDGE", items_per_edge):
            return semid.Trie.from_codes(codes, codebook_sizes=sizes)

    return codes, sizes, build


def prefixes_of(codes):
    """Return all prefixes of all items, whole IDs included."""
    return sorted({tuple(sid[:depth].tolist()) for sid in codes for depth in range(codes.shape[1] + 1)})


def ranges_of(n_items):
    """Draw a set of ranks."""
    return st.sets(st.integers(0, n_items - 1))
