"""Evaluation over the full catalogue, against scoring every item by teacher forcing."""

import numpy as np
import pytest
import torch
from gensar.causal import CausalBackbone
from gensar.dataset import TEST, VALID, seen, targets
from gensar.encoder_decoder import T5Backbone
from gensar.evaluation import Evaluator
from gensar.events import draw_forms, prompt
from gensar.ranking import metrics, ranks_of


def log_probability(model, tokens, sid):
    """Sum of the log-probabilities of an ID after a prompt: one forward pass, nothing shared."""
    with torch.inference_mode():
        if model.config.is_encoder_decoder:
            start = [model.config.decoder_start_token_id, *sid[:-1]]
            logits = model(input_ids=torch.tensor([tokens]), decoder_input_ids=torch.tensor([start])).logits[0]
        else:
            logits = model(input_ids=torch.tensor([tokens + sid])).logits[0, len(tokens) - 1 : -1]
        return float(torch.log_softmax(logits.double(), -1)[torch.arange(len(sid)), sid].sum())


@pytest.mark.parametrize("kind", [CausalBackbone, T5Backbone])
@pytest.mark.parametrize("task", ["recommendation", "search"])
def test_ranking_agrees_with_scoring_every_item(kind, task, toy, identifiers, teach, recipe):
    """With as many beams as items the beam search is exhaustive."""
    model, language = teach(kind(recipe))
    model.eval()
    result = Evaluator(toy, identifiers, language, recipe).evaluate(model, task=task, split=TEST)
    requests = targets(toy.histories, task=task, split=TEST)
    assert result.n_generated == result.n_real == 10 * len(requests)
    assert result.n_repeated == 0
    for (user, event), ranked in list(zip(requests, result.ranked, strict=True))[:4]:
        history = toy.histories[user]
        forms = draw_forms(history, np.random.default_rng([user, event]), search_share=recipe.search_share)
        tokens = prompt(language, history, event, task=task, forms=forms, max_tokens=recipe.max_tokens)
        scores = np.array([log_probability(model, tokens, sid) for sid in language.id_tokens[task].tolist()])
        scores[seen(history, event)] = -np.inf
        best = np.argsort(-scores)[:10]
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
