"""The tokenizer knows every word, behaviour and code as one token."""

import numpy as np
import pytest
from gensar.causal import CausalBackbone
from gensar.identifiers import VIEW_OF
from gensar.language import REC_ITEM, SRC_ITEM, SRC_QUERY


@pytest.fixture
def language(teach, recipe):
    return teach(CausalBackbone(recipe))[1]


def test_a_search_head_is_the_query_between_two_behaviours(language, toy):
    for text, head in zip(toy.query_texts, language.search_heads, strict=True):
        tokens = language.tokenizer.convert_ids_to_tokens(list(head))
        assert tokens == [SRC_QUERY, *text.lower().split(), SRC_ITEM]
    assert language.tokenizer.convert_ids_to_tokens(list(language.rec_head)) == [REC_ITEM]


def test_ids_survive_text(language, identifiers):
    for task, view in VIEW_OF.items():
        texts = language.vocabs[view].to_text(identifiers.codes[view])
        read = language.tokenizer(texts, add_special_tokens=False)["input_ids"]
        np.testing.assert_array_equal(read, language.id_tokens[task])


def test_shared_codes_are_shared_tokens(language, identifiers):
    n_shared = identifiers.n_shared
    semantic, collaborative = language.id_tokens["search"], language.id_tokens["recommendation"]
    np.testing.assert_array_equal(semantic[:, :n_shared], collaborative[:, :n_shared])
    assert not set(semantic[:, n_shared:].ravel()) & set(collaborative[:, n_shared:].ravel())


def test_the_model_has_a_row_for_every_token(teach, recipe):
    model, language = teach(CausalBackbone(recipe))
    assert model.get_input_embeddings().weight.shape[0] >= len(language.tokenizer)
    assert language.n_levels == recipe.n_shared + recipe.n_specific
