"""Evaluation over the full catalogue, against scoring every item by teacher forcing."""

import numpy as np
import pytest
from gensar.dataset import TEST, VALID, seen, targets
from gensar.evaluation import Evaluator
from gensar.language import draw_forms, prompt
from gensar.metrics import metrics, ranks_of
from gensar.models import CausalBackbone, T5Backbone
from oracles import log_probability


@pytest.mark.parametrize("kind", [CausalBackbone, T5Backbone])
@pytest.mark.parametrize(
    ("task", "within"), [("recommendation", "query"), ("search", "query"), ("search", "catalogue")]
)
def test_ranking_agrees_with_scoring_every_item(kind, task, within, toy, identifiers, teach, with_recipe):
    """With as many beams as items the beam search is exhaustive."""
    recipe = with_recipe(search_within=within, search_by="search")
    model, language = teach(kind(recipe))
    model.eval()
    result = Evaluator(toy, identifiers, language, recipe).evaluate(model, task=task, split=TEST)
    requests = targets(toy.histories, task=task, split=TEST)
    assert result.n_generated == result.n_real == (result.ranked >= 0).sum()
    if task == "recommendation" or within == "catalogue":
        assert result.n_real == 20 * len(requests)
    assert result.n_repeated == 0
    for (user, event), ranked in list(zip(requests, result.ranked, strict=True))[:4]:
        history = toy.histories[user]
        forms = draw_forms(history, np.random.default_rng([user, event]), search_share=recipe.search_share)
        tokens = prompt(language, history, event, task=task, forms=forms, max_tokens=recipe.max_tokens)
        scores = np.array([log_probability(model, tokens, sid) for sid in language.id_tokens[task].tolist()])
        scores[seen(history, event)] = -np.inf
        if task == "search" and within == "query":
            scores[np.setdiff1d(np.arange(toy.n_items), toy.query_items[history.query[event]])] = -np.inf
        assert (ranked >= 0).sum() == min(len(ranked), np.isfinite(scores).sum())
        ranked = ranked[ranked >= 0]
        best = np.argsort(-scores)[: len(ranked)]
        assert np.abs(scores[best] - scores[ranked]).max() < 1e-4  # the same items, but for exact ties
        assert not set(ranked) & set(seen(history, event))
    relevant = np.array([toy.histories[user].item[event] for user, event in requests])
    assert result.metrics == metrics(ranks_of(result.ranked, relevant))


def test_some_users_are_the_same_users_every_time(toy, identifiers, teach, recipe):
    model, language = teach(CausalBackbone(recipe))
    model.eval()
    evaluator = Evaluator(toy, identifiers, language, recipe)
    few = [evaluator.evaluate(model, task="search", split=VALID, n_users=5).ranked for _ in range(2)]
    assert len(few[0]) == 5
    np.testing.assert_array_equal(*few)


def test_a_split_without_targets_has_no_result(toy, identifiers, teach, recipe):
    model, language = teach(CausalBackbone(recipe))
    model.eval()
    assert Evaluator(toy, identifiers, language, recipe).evaluate(model, task="search", split=7) is None


@pytest.mark.parametrize("kind", [CausalBackbone, T5Backbone])
def test_items_of_a_query_are_ranked_by_both_tasks(kind, toy, identifiers, teach, with_recipe):
    """Against teacher forcing of both IDs of each item."""
    recipe = with_recipe(search_within="query", search_by="both")
    model, language = teach(kind(recipe))
    model.eval()
    result = Evaluator(toy, identifiers, language, recipe).evaluate(model, task="search", split=TEST)
    requests = targets(toy.histories, task="search", split=TEST)
    for (user, event), ranked in list(zip(requests, result.ranked, strict=True))[:4]:
        history = toy.histories[user]
        items = np.setdiff1d(toy.query_items[history.query[event]], seen(history, event))
        total = np.zeros(len(items))
        for task in ("search", "recommendation"):
            forms = draw_forms(history, np.random.default_rng([user, event]), search_share=recipe.search_share)
            tokens = prompt(language, history, event, task=task, forms=forms, max_tokens=recipe.max_tokens)
            total += [log_probability(model, tokens, sid) for sid in language.id_tokens[task][items].tolist()]
        scores = dict(zip(items.tolist(), total, strict=True))
        found = ranked[ranked >= 0].tolist()
        assert set(found) == set(scores)  # the toy's queries have fewer items than a list has places
        assert (np.diff([scores[item] for item in found]) < 1e-4).all()  # best first, but for exact ties
    assert result.n_generated == 0
