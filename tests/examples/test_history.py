import numpy as np
import pytest
from gensar.history import TEST, TRAIN, VALID, Events, build_histories, seen, targets


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
