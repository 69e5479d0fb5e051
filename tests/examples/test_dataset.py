"""Histories and their splits, what may be known of a target, and the queries made from category paths."""

import numpy as np
import pytest
from gensar.dataset import (
    TEST,
    TRAIN,
    VALID,
    Events,
    attach_queries,
    build_histories,
    first_users,
    path_query,
    queries_of_paths,
    seen,
    targets,
    words,
)


def ints(*values):
    return np.array(values, dtype=np.int64)


def one_user(item, time, query=None, split=None, search_split=None):
    item = ints(*item)
    query = np.zeros(len(item), dtype=np.int64) if query is None else ints(*query)
    if split is not None:
        split, search_split = np.array(split, dtype=np.int8), np.array(search_split, dtype=np.int8)
    events = Events(np.zeros(len(item), dtype=np.int64), item, query, ints(*time), split, search_split)
    return build_histories(events, n_users=1)[0]


def test_events_are_sorted_by_time_and_split_leave_one_out():
    history = one_user(item=[7, 5, 6, 4], time=[40, 20, 30, 10])
    assert history.item.tolist() == [4, 5, 6, 7]
    assert history.split.tolist() == [TRAIN, TRAIN, VALID, TEST]
    assert history.search_split.tolist() == [TRAIN, TRAIN, VALID, TEST]
    assert (history.item.dtype, history.split.dtype) == (np.int64, np.int8)


def test_searches_are_split_by_the_same_rule_among_themselves():
    history = one_user(item=[1, 2, 3, 4, 5], time=[1, 2, 3, 4, 5], query=[0, 0, 0, -1, -1])
    assert history.split.tolist() == [TRAIN, TRAIN, TRAIN, VALID, TEST]
    assert history.search_split.tolist() == [TRAIN, VALID, TEST, -1, -1]
    assert history.train_events().tolist() == [0]
    assert history.before_split(TEST).tolist() == [0, 1]


@pytest.mark.parametrize("n_events", [0, 1, 2])
def test_a_user_with_fewer_than_three_events_only_trains(n_events):
    history = one_user(item=range(n_events), time=range(n_events))
    assert (history.split == TRAIN).all() and len(history.train_events()) == n_events


def test_users_are_kept_apart():
    events = Events(ints(1, 0, 1, 2, 0), ints(10, 20, 11, 30, 21), ints(0, 0, 0, 0, 0), ints(5, 1, 4, 0, 2))
    histories = build_histories(events, n_users=3)
    assert [history.item.tolist() for history in histories] == [[20, 21], [11, 10], [30]]


def test_history_of_a_target_is_strictly_earlier():
    history = one_user(item=range(5), time=[1, 2, 2, 2, 3])
    assert [history.before(event).tolist() for event in range(5)] == [[], [0], [0], [0], [0, 1, 2, 3]]


def test_order_inside_one_second_is_drawn_and_the_same_each_time():
    first = one_user(item=range(50), time=[1] * 50)
    again = one_user(item=range(50), time=[1] * 50)
    assert first.item.tolist() == again.item.tolist()
    assert sorted(first.item) == list(range(50))
    # 50 numbers in random order rise about as often as they fall.
    assert 15 < (np.diff(first.item) > 0).sum() < 35


def test_a_given_split_is_kept_inside_one_second():
    split = [TRAIN, TRAIN, TRAIN, VALID, TEST]
    history = one_user(item=range(5), time=[1] * 5, split=split, search_split=split)
    assert history.split.tolist() == split and history.item[3:].tolist() == [3, 4]


def test_seen_items_are_those_in_front_of_the_event_same_second_included():
    history = one_user(item=[9, 8, 7, 6], time=[1, 2, 3, 3], split=[0, 0, 1, 2], search_split=[0, 0, 1, 2])
    assert seen(history, 3).tolist() == [7, 8, 9]
    assert seen(history, 2).tolist() == [8, 9]
    assert seen(history, 0).tolist() == []


def test_seen_never_holds_the_item_of_the_target():
    history = one_user(item=[5, 4, 3, 5], time=[1, 2, 3, 4])
    assert seen(history, 3).tolist() == [3, 4]


def test_targets_are_ordered_by_user_and_told_by_task():
    events = Events(ints(0, 0, 0, 1, 1, 1), ints(1, 2, 3, 1, 2, 3), ints(0, 0, 0, 0, -1, 0), ints(1, 2, 3, 1, 2, 3))
    histories = build_histories(events, n_users=2)
    assert targets(histories, task="recommendation", split=TEST).tolist() == [[0, 2], [1, 2]]
    assert targets(histories, task="search", split=VALID).tolist() == [[0, 1]]
    assert targets(histories[:0], task="search", split=TEST).shape == (0, 2)


def test_first_users_keep_the_catalogue(toy):
    few = first_users(toy, 3)
    assert few.histories == toy.histories[:3]
    assert few.item_keys == toy.item_keys
    assert first_users(toy, None).n_users == toy.n_users


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (("Movies", "Drama", "1990s"), "movies drama 1990s"),
        (("Beauty", "Skin Care", "Hair & Skin"), "beauty care hair skin"),
        (("Movies", "Children's", "1990s"), "movies children 1990s"),
        (("Movies", "Sci-Fi", "1980s"), "movies sci fi 1980s"),
        (("Tools", "Sets of Tools for the Home"), "sets tools home"),
        (("Movies",), ""),
        ((), ""),
    ],
)
def test_path_query(path, query):
    assert path_query(path) == query


def test_words_are_lower_case_letters_and_digits():
    assert words("Se7en: L'Été, children's_books'") == ["se7en", "l", "été", "children", "s", "books"]


def test_queries_come_in_order_of_appearance_with_their_items():
    texts, items = queries_of_paths([[("A", "B"), ("A", "C")], [], [("A", "C"), ("a", "c"), ("D",)]])
    assert texts == ("b", "c")  # "a" is a stop word
    assert [members.tolist() for members in items] == [[0], [0, 2]]
    assert items[0].dtype == np.int64


def test_each_interaction_gets_a_query_of_its_item():
    query_items = [np.array([0, 1]), np.array([1]), np.array([1, 2])]
    items = np.array([0, 1, 2, 3] * 200)
    queries = attach_queries(items, query_items, n_items=4)
    assert queries.tolist() == attach_queries(items, query_items, n_items=4).tolist()
    assert {(item, query) for item, query in zip(items.tolist(), queries.tolist(), strict=True)} == {
        (0, 0),
        (1, 0),
        (1, 1),
        (1, 2),
        (2, 2),
        (3, -1),
    }
    counts = np.bincount(queries[items == 1])
    assert counts.min() > 40  # 200 draws over three queries
