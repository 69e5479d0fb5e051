"""Two IDs per item: unique in each view, with common shared codes."""

import numpy as np
import pytest
from gensar.identifiers import VIEW_OF, codebook_size_for


def test_ids_are_unique_per_view_and_share_their_first_codes(identifiers):
    codes = identifiers.resolution.codes
    for view in VIEW_OF.values():
        assert len(np.unique(codes[view], axis=0)) == len(codes[view])
    n_shared = identifiers.quantizer.n_shared
    np.testing.assert_array_equal(codes["semantic"][:, :n_shared], codes["collaborative"][:, :n_shared])
    assert (codes["semantic"] != codes["collaborative"]).any()


def test_the_catalogue_knows_the_codes_of_each_item(toy, identifiers):
    for view in VIEW_OF.values():
        np.testing.assert_array_equal(
            identifiers.sids.codes_of(toy.item_keys, view=view), identifiers.resolution.codes[view]
        )


@pytest.mark.parametrize(
    ("n_items", "n_levels", "expected"), [(40, 2, 16), (1682, 2, 64), (2049, 2, 128), (12_101, 2, 256), (32, 2, 8)]
)
def test_codebooks_grow_until_half_of_the_ids_are_free(n_items, n_levels, expected):
    assert codebook_size_for(n_items, n_levels=n_levels, at_least=8 if n_items < 100 else 64) == expected
