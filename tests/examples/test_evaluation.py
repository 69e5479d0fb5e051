"""Evaluation over the full catalogue, against scoring every item by teacher forcing."""

import numpy as np
import pytest
from gensar.candidates import Candidates, draw_candidates
from gensar.causal import CausalBackbone
from gensar.dataset import TEST, VALID, seen, targets
from gensar.encoder_decoder import T5Backbone
from gensar.evaluation import Evaluator
from gensar.events import draw_forms, prompt
from gensar.metrics import metrics, ranks_of
from oracles import log_probability

from semid.errors import InvalidValueError


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


def candidates_of(toy, n_candidates):
    tasks = ("recommendation", "search")
    return Candidates({task: draw_candidates(toy, task=task, n_candidates=n_candidates) for task in tasks}, {})


@pytest.mark.parametrize("kind", [CausalBackbone, T5Backbone])
@pytest.mark.parametrize("task", ["recommendation", "search"])
@pytest.mark.parametrize("n_candidates", [15, 100])
def test_candidates_are_ranked_by_their_probabilities(kind, task, n_candidates, toy, identifiers, teach, recipe):
    """Against teacher forcing of each; 100 are more than the toy has, so rows end in padding."""
    model, language = teach(kind(recipe))
    model.eval()
    candidates = candidates_of(toy, n_candidates)
    result = Evaluator(toy, identifiers, language, recipe).score_candidates(model, task=task, candidates=candidates)
    requests = targets(toy.histories, task=task, split=TEST)
    assert list(result.metrics) == [f"{name}@{k}" for k in (1, 5, 10, 20) for name in ("HR", "NDCG")]
    for (user, event), own, ranked in list(zip(requests, candidates.items[task], result.ranked, strict=True))[:4]:
        history = toy.histories[user]
        forms = draw_forms(history, np.random.default_rng([user, event]), search_share=recipe.search_share)
        tokens = prompt(language, history, event, task=task, forms=forms, max_tokens=recipe.max_tokens)
        own = own[own >= 0]
        scores = {item: log_probability(model, tokens, language.id_tokens[task][item].tolist()) for item in own}
        best = sorted(scores.values(), reverse=True)[:20]
        shown = ranked[ranked >= 0]
        assert len(shown) == len(best) == len(set(shown))
        np.testing.assert_allclose([scores[item] for item in shown], best, atol=1e-4)
    relevant = np.array([toy.histories[user].item[event] for user, event in requests])
    assert result.metrics == metrics(ranks_of(result.ranked, relevant), cutoffs=(1, 5, 10, 20))
    np.testing.assert_array_equal(result.users, requests[:, 0])


@pytest.mark.parametrize("kind", [CausalBackbone, T5Backbone])
def test_thirty_beams_find_what_the_scores_find_when_there_are_fewer_candidates(kind, toy, identifiers, teach, recipe):
    model, language = teach(kind(recipe))
    model.eval()
    evaluator, candidates = Evaluator(toy, identifiers, language, recipe), candidates_of(toy, 15)
    exact = evaluator.score_candidates(model, task="search", candidates=candidates)
    beams = evaluator.generate_candidates(model, task="search", candidates=candidates)
    assert beams.n_generated == beams.n_real == 15 * len(exact.ranks) and beams.n_repeated == 0
    assert (exact.ranked == beams.ranked).mean() > 0.95  # all but exact ties
    assert (beams.ranked[:, 15:] == -1).all()


def test_equal_scores_do_not_favour_the_target(toy, identifiers, teach, recipe, monkeypatch):
    """The target stands first in its row; a model that knows nothing must find it by chance."""
    model, language = teach(CausalBackbone(recipe))
    model.eval()
    monkeypatch.setattr("semid.score_items", lambda *_, candidates, **__: np.zeros((len(candidates), 15), np.float32))
    evaluator, candidates = Evaluator(toy, identifiers, language, recipe), candidates_of(toy, 15)
    assert evaluator.score_candidates(model, task="search", candidates=candidates).metrics["HR@1"] < 0.5


@pytest.mark.parametrize("kind", [CausalBackbone, T5Backbone])
def test_the_decoder_of_transformers_finds_the_same_items(kind, toy, identifiers, teach, with_recipe):
    recipe = with_recipe(num_beams=20)
    model, language = teach(kind(recipe))
    model.eval()
    candidates = candidates_of(toy, 15)
    ours, theirs = (Evaluator(toy, identifiers, language, recipe, decoder=name) for name in ("semid", "hf"))
    for find in (
        lambda evaluator: evaluator.evaluate(model, task="recommendation", split=TEST),
        lambda evaluator: evaluator.generate_candidates(model, task="search", candidates=candidates),
    ):
        a, b = find(ours), find(theirs)
        assert b.n_real == b.n_generated == a.n_generated and b.n_repeated == 0
        assert (a.ranked == b.ranked).mean() > 0.97  # all but scores that are equal within rounding


def test_the_decoder_of_transformers_has_one_normalizer(toy, identifiers, teach, with_recipe):
    recipe = with_recipe(normalize="window")
    model, language = teach(CausalBackbone(recipe))
    model.eval()
    evaluator = Evaluator(toy, identifiers, language, recipe, decoder="hf")
    with pytest.raises(InvalidValueError, match=r"expected normalize 'full', got 'window'\. Pass --decoder semid\."):
        evaluator.evaluate(model, task="recommendation", split=TEST)


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
