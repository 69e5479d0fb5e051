"""The paper's history: five and five by time, strict or with the published leak."""

import dataclasses

import numpy as np
import pytest
from gensar.dataset import TEST, Events, build_histories
from gensar.encoder_decoder import T5Backbone
from gensar.events import prompt
from gensar.presets import recipe_for
from gensar.recent import check_history, past_events

from semid.errors import InvalidValueError


def one_user(item, time, query=None):
    item = np.array(item, dtype=np.int64)
    query = np.zeros_like(item) if query is None else np.array(query)
    return build_histories(Events(np.zeros_like(item), item, query, np.array(time)), n_users=1)[0]


def recipe(**changes):
    return dataclasses.replace(recipe_for("tiny", "t5"), **changes)


def told(history, event, /, *, task="search", **changes):
    return past_events(history, event, task=task, recipe=recipe(**changes))


def test_without_a_number_the_whole_past_is_told():
    history = one_user(item=[7, 5], time=[1, 2])
    assert told(history, 1) is None


def test_interactions_and_searches_are_merged_by_time_interactions_first():
    history = one_user(item=range(6), time=[1, 2, 3, 4, 5, 6], query=[0, -1, 0, 0, -1, 0])
    assert told(history, 5, n_recent=2) == [(2, True), (3, False), (3, True), (4, False)]


@pytest.mark.parametrize("task", ["recommendation", "search"])
def test_strict_tells_nothing_of_the_targets_own_time(task):
    history = one_user(item=range(6), time=[1, 2, 3, 3, 3, 3])
    for event in range(2, 6):
        assert told(history, event, task=task, n_recent=5) == [(0, False), (0, True), (1, False), (1, True)]
    assert told(history, 0, task=task, n_recent=5) == []


@pytest.mark.parametrize("task", ["recommendation", "search"])
def test_where_times_differ_published_is_strict(task):
    history = one_user(item=[4, 3, 9, 1, 2, 8, 6, 5], time=range(8), query=[0, -1, 0, 0, 0, -1, 0, 0])
    for event in range(8):
        if task == "search" and history.query[event] < 0:
            continue
        published = told(history, event, task=task, history="published")
        assert published == told(history, event, task=task, n_recent=5)


def test_published_tells_a_search_its_own_interaction_unless_it_is_the_last():
    """Three at one time, listed by item: 5, 6, 7."""
    history = one_user(item=[1, 5, 6, 7], time=[1, 2, 2, 2])
    for event in (1, 2, 3):
        items = [int(history.item[at]) for at, as_search in told(history, event, history="published") if not as_search]
        assert items == ([1, 5, 6] if history.item[event] == 7 else [1, 5, 6, 7])


def test_published_tells_a_recommendation_what_the_other_order_put_in_front():
    """A target at place p sees the first p of the list by item, its own item among them where that is one of these."""
    history = one_user(item=range(20), time=[1] * 20)
    leaks = 0
    for event in range(20):
        past = told(history, event, task="recommendation", history="published", n_recent=20)
        items = [int(history.item[at]) for at, as_search in past if not as_search]
        assert items == list(range(event)) and not any(as_search for _, as_search in past)
        leaks += int(history.item[event]) in items
    assert leaks > 0


def test_prompts_of_the_encoder_decoder_tell_the_leak(toy, teach, with_recipe):
    """The tokens of a target's own item stand in some published prompts, and in no strict ones."""
    leaks = {}
    for name in ("strict", "published"):
        used = with_recipe(history=name, n_recent=5, max_tokens=200)
        _, language = teach(T5Backbone(used))
        leaks[name] = 0
        for history in toy.histories:
            event = int(np.flatnonzero(history.search_split == TEST)[0])
            past = past_events(history, event, task="search", recipe=used)
            forms = np.zeros(len(history.item), dtype=bool)
            tokens = prompt(language, history, event, task="search", forms=forms, max_tokens=200, past=past)
            sid = language.id_tokens["recommendation"][history.item[event]].tolist()
            leaks[name] += any(tokens[at : at + 2] == sid for at in range(len(tokens)))
        assert len(T5Backbone(used).draw(toy.histories, language, np.random.default_rng(0))) == sum(
            len(history.train_events()) for history in toy.histories
        )
    assert leaks["strict"] == 0 and leaks["published"] > 0


@pytest.mark.parametrize(
    ("changes", "backbone", "message"),
    [
        (
            {"history": "published"},
            "causal",
            r"expected --history strict .* got published and None\. Pass",
        ),
        ({"n_recent": 5}, "causal", r"got strict and 5\. Pass --backbone t5\."),
        ({"n_recent": 0}, "t5", r"--recent is no number of events: expected 1 or more, got 0\."),
        ({"history": "open"}, "t5", r"--history is unknown: expected one of .*, got 'open'\."),
    ],
)
def test_what_a_backbone_cannot_do(changes, backbone, message):
    with pytest.raises(InvalidValueError, match=message):
        check_history(recipe(**changes), backbone)


def test_the_defaults_go_with_both_backbones():
    check_history(recipe(), "causal")
    check_history(recipe(history="published", n_recent=3), "t5")
