"""From a data set to what is trained: views, unique IDs, tokens for them, and a model that knows the tokens."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .backbone import Backbone
from .biencoder import fit_biencoder
from .causal import CausalBackbone
from .dataset import Dataset
from .encoder_decoder import T5Backbone
from .identifiers import Identifiers, make_identifiers
from .language import Language, make_tokenizer, query_token, teach_ids
from .presets import BackboneName, Recipe
from .soft import FloatArray, features_of, soften
from .views import embed_texts

__all__ = ["BACKBONE_OF", "Reader", "identify", "make_reader"]

BACKBONE_OF: dict[BackboneName, type[Backbone]] = {"causal": CausalBackbone, "t5": T5Backbone}


class Reader(NamedTuple):
    """A model before its training, how it is trained, and its words."""

    backbone: Backbone
    model: Any
    language: Language


def identify(dataset: Dataset, views: Mapping[str, FloatArray], *, recipe: Recipe, seed: int) -> Identifiers:
    """Return the unique IDs of the items by the recipe's scheme."""
    joint = None
    if recipe.identifier == "fused-biencoder":
        queries = embed_texts(dataset.query_texts)
        joint = fit_biencoder(dataset.histories, views["semantic"], views["collaborative"], queries, seed=seed).items
    return make_identifiers(dataset.item_keys, views, recipe=recipe, seed=seed, joint=joint)


def make_reader(
    dataset: Dataset,
    views: Mapping[str, FloatArray],
    identifiers: Identifiers,
    *,
    backbone: BackboneName,
    recipe: Recipe,
) -> Reader:
    """Return a model of random weights, drawn from torch's generator, that has a token for every code and query."""
    texts = dataset.query_texts
    item_texts = dataset.item_texts if recipe.training_tasks == "six" else ()
    soft = recipe.inputs == "soft"
    tokenizer = make_tokenizer(
        () if soft else texts, item_texts=item_texts, n_soft_queries=dataset.n_queries if soft else 0
    )
    kind = BACKBONE_OF[backbone](recipe)
    model = kind.build(tokenizer)
    language = teach_ids(tokenizer, model, identifiers, texts, item_texts=item_texts, soft_queries=soft)
    if soft:
        queries = features_of({"text": embed_texts(texts)}) if texts else np.zeros((0, 1), np.float32)
        soften(
            model, id_tokens=language.id_tokens, first_query=tokenizer.convert_tokens_to_ids(query_token(0)),
            query_features=queries, item_features=features_of(views), recipe=recipe,
        )  # fmt: skip
    return Reader(kind, model, language)
