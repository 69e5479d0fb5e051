"""From a data set to what is trained: views, unique IDs, tokens for them, and a model that knows the tokens."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .backbone import Backbone
from .biencoder import fit_biencoder
from .causal import CausalBackbone
from .collaborative import collaborative_embeddings
from .dataset import Dataset
from .embeddings import embed_texts
from .encoder_decoder import T5Backbone
from .identifiers import Identifiers, make_identifiers
from .language import Language, make_tokenizer, query_token, teach_ids
from .presets import BackboneName, Recipe
from .sequential import SequentialItems, sequential_items
from .soft import FloatArray, features_of, soften

__all__ = ["BACKBONE_OF", "Reader", "Views", "identify", "make_reader", "side_by_side", "views_of"]

BACKBONE_OF: dict[BackboneName, type[Backbone]] = {"causal": CausalBackbone, "t5": T5Backbone}


class Reader(NamedTuple):
    """A model before its training, how it is trained, and its words."""

    backbone: Backbone
    model: Any
    language: Language


def side_by_side(parts: Sequence[FloatArray]) -> FloatArray:
    """Return embeddings of unit length as one of unit length, shape (n_items, sum of the dims), dtype float32."""
    return np.concatenate(parts, axis=1) / np.float32(len(parts) ** 0.5)


class Views(NamedTuple):
    """The two embeddings of each item.

    Attributes
    ----------
    embeddings : dict of view to ndarray of shape (n_items, dim), dtype float32
    sequential : SequentialItems or None
        SASRec's part of the collaborative view.
    """

    embeddings: dict[str, FloatArray]
    sequential: SequentialItems | None


def views_of(dataset: Dataset, *, recipe: Recipe, seed: int) -> Views:
    """Return the semantic and the collaborative view of the items, as the recipe has them."""
    semantic = embed_texts(dataset.item_texts)
    parts, sequential = [], None
    if recipe.collaborative != "sasrec":
        parts.append(collaborative_embeddings(dataset.histories, n_items=dataset.n_items, seed=seed))
    if recipe.collaborative != "ppmi":
        sequential = sequential_items(dataset, seed=seed)
        parts.append(sequential.embeddings)
    return Views({"semantic": semantic, "collaborative": side_by_side(parts)}, sequential)


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
