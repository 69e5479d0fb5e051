"""Soft inputs: what is added where, against loops over the tokens; and that decoding and files keep them."""

import numpy as np
import pytest
import torch
from gensar.dataset import TEST
from gensar.evaluation import Evaluator
from gensar.language import make_tokenizer, query_token, teach_ids
from gensar.models import CausalBackbone
from gensar.soft import SoftEmbedding, features_of, load_model, soften
from oracles import log_probability

from semid.errors import InvalidValueError


@pytest.fixture
def softened(toy, identifiers, with_recipe):
    """A toy model with soft inputs; returns (model, language, features of queries and items)."""

    def build(**changes):
        torch.manual_seed(0)
        recipe = with_recipe(**changes)
        tokenizer = make_tokenizer((), n_soft_queries=toy.n_queries)
        model = CausalBackbone(recipe).build(tokenizer)
        language = teach_ids(tokenizer, model, identifiers, toy.query_texts, soft_queries=True)
        rng = np.random.default_rng(2)
        queries = rng.standard_normal((toy.n_queries, 6)).astype(np.float32)
        items = rng.standard_normal((toy.n_items, 9)).astype(np.float32)
        soften(
            model, id_tokens=language.id_tokens, first_query=tokenizer.convert_tokens_to_ids(query_token(0)),
            query_features=queries, item_features=items, recipe=recipe,
        )  # fmt: skip
        return model, language, queries, items

    return build


def test_each_token_gets_what_it_stands_for(softened, toy):
    model, language, queries, items = softened()
    soft = model.get_input_embeddings().eval()
    rng = np.random.default_rng(1)
    tokens, extra = [], []
    nothing = np.zeros(soft.weight.shape[1], np.float32)
    to_input = {name: getattr(soft, name).weight.detach().numpy() for name in ("query_map", "item_map", "item_rows")}
    for event in range(30):
        item, query = int(rng.integers(toy.n_items)), int(rng.integers(toy.n_queries))
        task = ("search", "recommendation")[event % 2]
        head = language.search_heads[query] if task == "search" else language.rec_head
        tokens += [*head, *language.id_tokens[task][item].tolist()]
        extra += [to_input["query_map"] @ queries[query] if task == "search" else nothing]
        extra += [nothing] * (language.n_levels - 1)
        extra += [to_input["item_map"] @ items[item] + to_input["item_rows"][item]]
    with torch.no_grad():
        found = soft(torch.tensor([tokens, tokens]))
    expected = soft.weight.detach().numpy()[tokens] + np.array(extra)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)
    torch.testing.assert_close(found[0], found[1])


def test_an_id_that_is_not_whole_is_no_item(softened):
    model, language, *_ = softened()
    soft = model.get_input_embeddings().eval()
    sid = language.id_tokens["search"][3]
    for tokens in (sid[:-1], sid[1:], np.r_[sid[:1], language.rec_head, sid[1:]]):
        with torch.no_grad():
            torch.testing.assert_close(soft(torch.tensor(tokens)[None])[0], soft.weight[torch.tensor(tokens)])


def test_row_dropout_leaves_rows_away_in_training_alone(softened):
    model, language, _, items = softened(row_dropout=1.0, input_dropout=0.0)
    soft, sid = model.get_input_embeddings(), torch.tensor(language.id_tokens["search"][3])[None]
    with torch.no_grad():
        by_features = soft.weight[sid[0, -1]] + soft.item_map(torch.from_numpy(items[3]))
        torch.testing.assert_close(soft.train()(sid)[0, -1], by_features)
        torch.testing.assert_close(soft.eval()(sid)[0, -1], by_features + soft.item_rows.weight[3])


def test_beams_find_what_teacher_forcing_finds(softened, toy, identifiers, recipe):
    model, language, *_ = softened()
    model.eval()
    evaluator = Evaluator(toy, identifiers, language, recipe)
    result = evaluator.evaluate(model, task="search", split=TEST, within="catalogue", n_users=3)
    for user, ranked in zip(result.users, result.ranked, strict=True):
        event = int(np.flatnonzero(toy.histories[user].search_split == TEST)[0])
        tokens = evaluator._prompt(user, event, "search")
        scores = np.array([log_probability(model, tokens, sid) for sid in language.id_tokens["search"].tolist()])
        found = ranked[ranked >= 0]
        assert (np.diff(scores[found]) < 1e-4).all()  # best first, but for exact ties


def test_the_output_layer_stays_the_table(softened):
    model, *_ = softened()
    soft = model.get_input_embeddings()
    assert isinstance(soft, SoftEmbedding)
    assert model.get_output_embeddings().weight is soft.weight


def test_a_saved_model_is_loaded_with_its_soft_inputs(softened, tmp_path):
    model, language, *_ = softened()
    model.eval().save_pretrained(tmp_path)
    tokens = torch.tensor([[*language.search_heads[1], *language.id_tokens["search"][5].tolist()]])
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path)(tokens).logits, model(tokens).logits)


def test_a_saved_model_without_them_is_loaded_as_it_is(teach, recipe, tmp_path):
    model, language = teach(CausalBackbone(recipe))
    model.eval().save_pretrained(tmp_path)
    tokens = torch.tensor([[*language.rec_head, *language.id_tokens["search"][5].tolist()]])
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path)(tokens).logits, model(tokens).logits)


def test_features_are_centred_views_side_by_side(rng):
    views = {"one": rng.random((5, 2)).astype(np.float32), "two": rng.random((5, 3)).astype(np.float32)}
    features = features_of(views)
    assert features.shape == (5, 5)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.diff(features[:, :2], axis=0), np.diff(views["one"], axis=0), atol=1e-6)


def test_too_many_levels_are_refused(softened, recipe):
    model, _, queries, items = softened()
    long = {"search": np.zeros((len(items), 12), np.int64)}
    with pytest.raises(InvalidValueError, match=r"expected fewer levels, got 12 over \d+ tokens\. Pass --inputs"):
        soften(model, id_tokens=long, first_query=0, query_features=queries, item_features=items, recipe=recipe)
