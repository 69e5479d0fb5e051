"""A prompt holds strictly earlier events and nothing of its target."""

import numpy as np
import pytest
from gensar.causal import CausalBackbone
from gensar.events import draw_forms, event_parts, prompt


@pytest.fixture
def language(teach, recipe):
    return teach(CausalBackbone(recipe))[1]


def test_forms_are_searches_only_where_there_is_a_query(toy):
    history = toy.histories[0]
    every = draw_forms(history, np.random.default_rng(0), search_share=1.0)
    np.testing.assert_array_equal(every, history.query >= 0)
    assert not draw_forms(history, np.random.default_rng(0), search_share=0.0).any()


def test_an_event_has_two_forms(toy, language):
    history = toy.histories[0]
    event = int(np.flatnonzero(history.query >= 0)[0])
    head, sid = event_parts(language, history, event, as_search=False)
    assert (head, sid) == (language.rec_head, language.id_tokens["recommendation"][history.item[event]].tolist())
    head, sid = event_parts(language, history, event, as_search=True)
    assert head == language.search_heads[history.query[event]]
    assert sid == language.id_tokens["search"][history.item[event]].tolist()


@pytest.mark.parametrize("task", ["recommendation", "search"])
def test_a_prompt_is_the_earlier_events_and_the_head(toy, language, task):
    for history in toy.histories:
        forms = draw_forms(history, np.random.default_rng(1), search_share=0.5)
        for event in np.flatnonzero(history.query >= 0):
            expected = []
            for past in range(len(history.item)):
                if history.time[past] < history.time[event]:
                    head, sid = event_parts(language, history, past, as_search=bool(forms[past]))
                    expected += [*head, *sid]
            head, _ = event_parts(language, history, event, as_search=task == "search")
            written = prompt(language, history, event, task=task, forms=forms, max_tokens=1000)
            assert written == [*expected, *head]


def test_a_long_prompt_loses_its_oldest_events(toy, language):
    history = toy.histories[0]
    event, forms = len(history.item) - 1, np.zeros(len(history.item), dtype=bool)
    whole = prompt(language, history, event, task="recommendation", forms=forms, max_tokens=1000)
    width = 1 + language.n_levels
    assert len(whole) == 1 + width * len(history.before(event))
    for max_tokens in (1, width, width + 1, 2 * width, 4 * width + 2):
        cut = prompt(language, history, event, task="recommendation", forms=forms, max_tokens=max_tokens)
        assert cut == whole[len(whole) - (1 + (max_tokens - 1) // width * width) :]
        assert len(cut) <= max_tokens
