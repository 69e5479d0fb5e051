"""The history as published: where times differ it is the strict one, and elsewhere it leaks."""

import dataclasses

import numpy as np
import pytest
from gensar.dataset import TEST, Events, build_histories
from gensar.lab.published import check_history, published_past
from gensar.language import prompt, strict_past
from gensar.models import T5Backbone
from gensar.presets import recipe_for

from semid.errors import InvalidValueError


def one_user(item, time, query=None):
    item = np.array(item, dtype=np.int64)
    query = np.zeros_like(item) if query is None else np.array(query)
    return build_histories(Events(np.zeros_like(item), item, query, np.array(time)), n_users=1)[0]


@pytest.mark.parametrize("task", ["recommendation", "search"])
def test_where_times_differ_published_is_strict(task):
    history = one_user(item=[4, 3, 9, 1, 2, 8, 6, 5], time=range(8), query=[0, -1, 0, 0, 0, -1, 0, 0])
    for event in range(8):
        if task == "search" and history.query[event] < 0:
            continue
        published = published_past(history, event, task=task, n_recent=None)
        assert published == strict_past(history, event, task=task, n_recent=5)


def test_published_tells_a_search_its_own_interaction_unless_it_is_the_last():
    """Three at one time, listed by item: 5, 6, 7."""
    history = one_user(item=[1, 5, 6, 7], time=[1, 2, 2, 2])
    for event in (1, 2, 3):
        past = published_past(history, event, task="search", n_recent=None)
        items = [int(history.item[at]) for at, as_search in past if not as_search]
        assert items == ([1, 5, 6] if history.item[event] == 7 else [1, 5, 6, 7])


def test_published_tells_a_recommendation_what_the_other_order_put_in_front():
    """A target at place p sees the first p of the list by item, its own item among them where that is one of these."""
    history = one_user(item=range(20), time=[1] * 20)
    leaks = 0
    for event in range(20):
        past = published_past(history, event, task="recommendation", n_recent=20)
        items = [int(history.item[at]) for at, as_search in past if not as_search]
        assert items == list(range(event)) and not any(as_search for _, as_search in past)
        leaks += int(history.item[event]) in items
    assert leaks > 0


def test_prompts_of_the_encoder_decoder_tell_the_leak(toy, teach, with_recipe):
    """The tokens of a target's own item stand in some published prompts, and in no strict ones."""
    leaks = {}
    for name, rule in (("strict", strict_past), ("published", published_past)):
        used = with_recipe(history=name, n_recent=5, max_tokens=200)
        language = dataclasses.replace(teach(T5Backbone(used))[1], past=rule)
        leaks[name] = 0
        for history in toy.histories:
            event = int(np.flatnonzero(history.search_split == TEST)[0])
            forms = np.zeros(len(history.item), dtype=bool)
            tokens = prompt(language, history, event, task="search", forms=forms, max_tokens=200, n_recent=5)
            sid = language.id_tokens["recommendation"][history.item[event]].tolist()
            leaks[name] += any(tokens[at : at + 2] == sid for at in range(len(tokens)))
        assert len(T5Backbone(used).draw(toy.histories, language, np.random.default_rng(0))) == sum(
            len(history.train_events()) for history in toy.histories
        )
    assert leaks["strict"] == 0 and leaks["published"] > 0


def test_a_backbone_of_whole_histories_refuses_it(with_recipe):
    message = r"expected --history strict, got published\. Pass --backbone t5\."
    with pytest.raises(InvalidValueError, match=message):
        check_history(with_recipe(history="published"), "causal")
    check_history(with_recipe(history="published", n_recent=3), "t5")
    check_history(recipe_for("tiny", "causal"), "causal")
