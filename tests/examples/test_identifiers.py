"""IDs of the items: unique in each view, with common shared codes, by each of the identifiers."""

import numpy as np
import pytest
from gensar.identifiers import IDENTIFIERS, VIEW_OF, codebook_size_for, joined, make_identifiers
from gensar.language import make_tokenizer, teach_ids
from gensar.models import CausalBackbone
from gensar.presets import recipe_for

from semid.errors import InvalidValueError


@pytest.fixture
def teach_with(toy, recipe):
    """Teach a model the IDs given."""

    def build(identifiers):
        tokenizer = make_tokenizer(toy.query_texts)
        return teach_ids(tokenizer, CausalBackbone(recipe).build(tokenizer), identifiers, toy.query_texts)

    return build


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
def test_every_identifier_gives_unique_ids_of_one_shape(name, with_recipe, catalogue):
    rng = np.random.default_rng(7)
    views = {
        "semantic": rng.standard_normal((300, 24)).astype(np.float32),
        "collaborative": rng.standard_normal((300, 8)).astype(np.float32),
    }
    recipe = with_recipe(identifier=name, codebook_size=32, network_epochs=4)
    made = make_identifiers(catalogue(300), views, recipe=recipe, seed=0)
    one_id = name in {"residual-kmeans", "rqvae", "semantic-kmeans", "collaborative-kmeans"}
    assert made.n_shared == (2 if one_id else 0 if name == "separate-kmeans" else 1)
    for view in views:
        assert made.codes[view].shape == (300, 2) and len(np.unique(made.codes[view], axis=0)) == 300
        assert [book.shape[0] for book in made.codebooks[view]] == [32, 32]
    assert (made.codes["semantic"] == made.codes["collaborative"]).all() == one_id


def test_networks_learn_for_the_epochs_of_the_recipe(with_recipe, catalogue):
    few = make_identifiers(
        catalogue(300), two_views(), seed=0,
        recipe=with_recipe(identifier="gensar-rqvae", codebook_size=32, network_epochs=3),
    )  # fmt: skip
    assert few.quantizer.recipe.training.epochs == 3
    assert {preset: recipe_for(preset, "t5").network_epochs for preset in ("tiny", "small", "paper")} == {
        "tiny": 10, "small": None, "paper": None,
    }  # fmt: skip


def two_views(n_items=300):
    rng = np.random.default_rng(7)
    return {
        "semantic": rng.standard_normal((n_items, 24)).astype(np.float32),
        "collaborative": rng.standard_normal((n_items, 8)).astype(np.float32),
    }


@pytest.mark.parametrize("view", ["semantic", "collaborative"])
@pytest.mark.parametrize("name", ["one view", "separate-kmeans"])
def test_ids_of_a_view_alone_do_not_depend_on_the_other(view, name, with_recipe, catalogue):
    recipe = with_recipe(identifier=f"{view}-kmeans" if name == "one view" else name, codebook_size=32)
    views = two_views()
    made = make_identifiers(catalogue(300), views, recipe=recipe, seed=0)
    other = next(key for key in views if key != view)
    views[other] = views[other][::-1].copy()
    again = make_identifiers(catalogue(300), views, recipe=recipe, seed=0)
    np.testing.assert_array_equal(made.codes[view], again.codes[view])


@pytest.mark.parametrize("name", ["shared-specific-kmeans", "residual-kmeans"])
def test_the_suffix_is_a_level_more(name, with_recipe, teach_with, catalogue):
    recipe = with_recipe(identifier=name, codebook_size=32, policy="suffix")
    made = make_identifiers(catalogue(300), two_views(), recipe=recipe, seed=0)
    for view, codes in made.codes.items():
        assert codes.shape == (300, 3) and len(np.unique(codes, axis=0)) == 300
        assert len(made.codebooks[view]) == 3
    language = teach_with(made)
    assert language.n_levels == 3


def test_joined_views_weigh_the_same():
    rng = np.random.default_rng(8)
    views = {"a": 100 + 9 * rng.standard_normal((50, 3)), "b": rng.standard_normal((50, 7))}
    both = joined(views)
    for part in (both[:, :3], both[:, 3:]):
        np.testing.assert_allclose((part**2).sum(axis=1).mean(), 1.0)
        np.testing.assert_allclose(part.mean(axis=0), 0.0, atol=1e-9)


def test_an_unknown_identifier(with_recipe, catalogue):
    recipe = with_recipe(identifier="titles")
    with pytest.raises(InvalidValueError, match=r"--identifier is unknown: expected one of .*, got 'titles'\."):
        make_identifiers(catalogue(4), two_views(4), recipe=recipe, seed=0)
