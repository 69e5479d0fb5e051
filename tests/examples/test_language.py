"""Every word, behaviour and code is one token; a prompt holds strictly earlier events and nothing of its target."""

import numpy as np
import pytest
from gensar.dataset import Events, build_histories
from gensar.identifiers import VIEW_OF
from gensar.language import REC_ITEM, SRC_ITEM, SRC_QUERY, draw_forms, event_parts, prompt, strict_past
from gensar.models import CausalBackbone


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


def one_user(item, time, query=None):
    item = np.array(item, dtype=np.int64)
    query = np.zeros_like(item) if query is None else np.array(query)
    return build_histories(Events(np.zeros_like(item), item, query, np.array(time)), n_users=1)[0]


def test_without_a_number_the_whole_past_is_told():
    history = one_user(item=[7, 5], time=[1, 2])
    assert strict_past(history, 1, task="search", n_recent=None) is None


def test_interactions_and_searches_are_merged_by_time_interactions_first():
    history = one_user(item=range(6), time=[1, 2, 3, 4, 5, 6], query=[0, -1, 0, 0, -1, 0])
    assert strict_past(history, 5, task="search", n_recent=2) == [(2, True), (3, False), (3, True), (4, False)]


@pytest.mark.parametrize("task", ["recommendation", "search"])
def test_strict_tells_nothing_of_the_targets_own_time(task):
    history = one_user(item=range(6), time=[1, 2, 3, 3, 3, 3])
    for event in range(2, 6):
        assert strict_past(history, event, task=task, n_recent=5) == [(0, False), (0, True), (1, False), (1, True)]
    assert strict_past(history, 0, task=task, n_recent=5) == []
