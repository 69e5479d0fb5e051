"""One user's events in time order, and which of them may be known when a target is predicted.

Leave-one-out: the last event of a user is the test target and the one before it the validation target; the same rule
holds a second time for the events that have a query. Many MovieLens users rate dozens of films in one second. Their
order inside that second is unknown, so it is drawn at random, once; and a target's history holds only events of
earlier seconds, whatever the drawn order says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

__all__ = ["TEST", "TRAIN", "VALID", "Events", "History", "IntArray", "Task", "build_histories", "seen", "targets"]

IntArray = npt.NDArray[np.signedinteger[Any]]
Task = Literal["recommendation", "search"]

TRAIN, VALID, TEST = 0, 1, 2

# Fixed, and apart from the seed of a run: runs with other seeds must be tested on the same events.
ORDER_SEED = 2025


@final
@dataclass(frozen=True)
class Events:
    """All users' events in the order of the source.

    Parameters
    ----------
    user, item, query, time : ndarray of shape (n_events,), dtype int64
        Indices, and the time in the source's own unit; `query` is -1 where no search led to the item.
    split, search_split : ndarray of shape (n_events,), dtype int8, optional
        The split that the source prescribes (`search_split` is -1 where there is no query); None: leave-one-out.
    """

    user: IntArray
    item: IntArray
    query: IntArray
    time: IntArray
    split: IntArray | None = None
    search_split: IntArray | None = None


@final
@dataclass(frozen=True)
class History:
    """One user's events in time order: interactions and, where ``query >= 0``, the search that led to each.

    Parameters
    ----------
    item : ndarray of shape (n_events,), dtype int64
    query : ndarray of shape (n_events,), dtype int64
        -1 where no search led to the item.
    time : ndarray of shape (n_events,), dtype int64
        Non-decreasing.
    split : ndarray of shape (n_events,), dtype int8
        `TRAIN`, `VALID` or `TEST` of recommendation.
    search_split : ndarray of shape (n_events,), dtype int8
        The same for search; -1 where there is no query.
    """

    item: IntArray
    query: IntArray
    time: IntArray
    split: IntArray
    search_split: IntArray

    def before(self, event: int) -> IntArray:
        """Return the indices of the events strictly earlier in time than `event`: the history of that target."""
        return np.arange(np.searchsorted(self.time, self.time[event], side="left"))

    def before_split(self, split: int) -> IntArray:
        """Return the indices of the events in front of the first `split` (or later split) target of either task."""
        held_out = (self.split >= split) | (self.search_split >= split)
        return np.arange(np.argmax(held_out) if held_out.any() else len(self.item))

    def train_events(self) -> IntArray:
        """Return the indices of the events that are train in both tasks and precede every valid and test event."""
        return self.before_split(VALID)


def seen(history: History, event: int) -> IntArray:
    """Return the items that no ranking for `event` may hold: the user's events in front of it, but its own item.

    Events of the same second are part of it: they are not known as history, but the user does have those items.

    Returns
    -------
    items : ndarray of shape (n_seen,), dtype int64
        Sorted, unique.
    """
    return np.setdiff1d(history.item[:event], history.item[event])


def targets(histories: Sequence[History], *, task: Task, split: int) -> IntArray:
    """Return the (user, event) pairs to predict, shape (n_targets, 2), dtype int64, ordered by user."""
    pairs = [
        (user, event)
        for user, history in enumerate(histories)
        for event in np.flatnonzero((history.split if task == "recommendation" else history.search_split) == split)
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def build_histories(events: Events, *, n_users: int) -> tuple[History, ...]:
    """Sort the events by time, per user, and split them; equal times come in an order drawn with a fixed seed.

    A user with fewer than three events (searches) has no valid and test event (search) and serves training alone.
    A split that the source prescribes is kept; then train comes before valid and test inside one second.
    """
    rng = np.random.default_rng(ORDER_SEED)
    ties = rng.permutation(len(events.user))
    if events.split is None:
        order = np.lexsort((ties, events.time, events.user))
    else:
        later_search = ties if events.search_split is None else events.search_split
        order = np.lexsort((ties, later_search, events.split, events.time, events.user))
    bounds = np.searchsorted(events.user[order], np.arange(1, n_users))
    return tuple(_history(events, rows) for rows in np.split(order, bounds))


def _history(events: Events, rows: IntArray) -> History:
    query = events.query[rows]
    if events.split is None or events.search_split is None:
        split = _leave_one_out(len(rows))
        search_split = np.full(len(rows), -1, dtype=np.int8)
        search_split[query >= 0] = _leave_one_out(int((query >= 0).sum()))
    else:
        split, search_split = events.split[rows], events.search_split[rows]
    return History(events.item[rows], query, events.time[rows], split, search_split)


def _leave_one_out(n_events: int) -> IntArray:
    split = np.full(n_events, TRAIN, dtype=np.int8)
    if n_events >= 3:
        split[-2:] = VALID, TEST
    return split
