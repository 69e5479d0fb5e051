"""The beam search of transformers finds what semid.generate finds."""

import pytest
from gensar.dataset import TEST
from gensar.evaluation import Evaluator
from gensar.lab.candidates import Candidates, draw_candidates, generate_candidates
from gensar.lab.decoding import generate_hf
from gensar.models import CausalBackbone, T5Backbone

import semid
from semid.errors import InvalidValueError


@pytest.mark.parametrize("kind", [CausalBackbone, T5Backbone])
def test_the_decoder_of_transformers_finds_the_same_items(kind, toy, identifiers, teach, with_recipe):
    recipe = with_recipe(num_beams=20)
    model, language = teach(kind(recipe))
    model.eval()
    candidates = Candidates({"search": draw_candidates(toy, task="search", n_candidates=15)}, {})
    ours, theirs = (
        Evaluator(toy, identifiers, language, recipe, decode=decode) for decode in (semid.generate, generate_hf)
    )
    for find in (
        lambda evaluator: evaluator.evaluate(model, task="recommendation", split=TEST),
        lambda evaluator: generate_candidates(evaluator, model, "search", candidates),
    ):
        a, b = find(ours), find(theirs)
        assert b.n_real == b.n_generated == a.n_generated and b.n_repeated == 0
        assert (a.ranked == b.ranked).mean() > 0.97  # all but scores that are equal within rounding


def test_the_decoder_of_transformers_has_one_normalizer(toy, identifiers, teach, with_recipe):
    recipe = with_recipe(normalize="window")
    model, language = teach(CausalBackbone(recipe))
    model.eval()
    evaluator = Evaluator(toy, identifiers, language, recipe, decode=generate_hf)
    with pytest.raises(InvalidValueError, match=r"expected --normalize full, got 'window'\. Pass --decoder semid\."):
        evaluator.evaluate(model, task="recommendation", split=TEST)
