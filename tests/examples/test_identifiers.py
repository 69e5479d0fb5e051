"""IDs of the items: unique in each view, with common shared codes, by each of the identifiers."""

import numpy as np
import pytest
from gensar.identifiers import IDENTIFIERS, VIEW_OF, codebook_size_for, joined, make_identifiers


def test_ids_are_unique_per_view_and_share_their_first_codes(identifiers):
    codes = identifiers.codes
    for view in VIEW_OF.values():
        assert len(np.unique(codes[view], axis=0)) == len(codes[view])
    n_shared = identifiers.n_shared
    np.testing.assert_array_equal(codes["semantic"][:, :n_shared], codes["collaborative"][:, :n_shared])
    assert (codes["semantic"] != codes["collaborative"]).any()


def test_the_catalogue_knows_the_codes_of_each_item(toy, identifiers):
    for view in VIEW_OF.values():
        np.testing.assert_array_equal(identifiers.sids.codes_of(toy.item_keys, view=view), identifiers.codes[view])


@pytest.mark.parametrize(
    ("n_items", "n_levels", "expected"), [(40, 2, 16), (1682, 2, 64), (2049, 2, 128), (12_101, 2, 256), (32, 2, 8)]
)
def test_codebooks_grow_until_half_of_the_ids_are_free(n_items, n_levels, expected):
    assert codebook_size_for(n_items, n_levels=n_levels, at_least=8 if n_items < 100 else 64) == expected


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_every_identifier_gives_unique_ids_of_one_shape(name, with_recipe):
    rng = np.random.default_rng(7)
    views = {
        "semantic": rng.standard_normal((300, 24)).astype(np.float32),
        "collaborative": rng.standard_normal((300, 8)).astype(np.float32),
    }
    recipe = with_recipe(identifier=name, codebook_size=32)
    made = make_identifiers(tuple(map(str, range(300))), views, recipe=recipe, seed=0)
    one_id = name in {"residual-kmeans", "rqvae"}
    assert made.n_shared == (2 if one_id else 1)
    for view in views:
        assert made.codes[view].shape == (300, 2) and len(np.unique(made.codes[view], axis=0)) == 300
        assert [book.shape[0] for book in made.codebooks[view]] == [32, 32]
    assert (made.codes["semantic"] == made.codes["collaborative"]).all() == one_id


def test_joined_views_weigh_the_same():
    rng = np.random.default_rng(8)
    views = {"a": 100 + 9 * rng.standard_normal((50, 3)), "b": rng.standard_normal((50, 7))}
    both = joined(views)
    for part in (both[:, :3], both[:, 3:]):
        np.testing.assert_allclose((part**2).sum(axis=1).mean(), 1.0)
        np.testing.assert_allclose(part.mean(axis=0), 0.0, atol=1e-9)
