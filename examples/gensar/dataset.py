"""The data: items with texts, queries, and one history of events per user; what is held out, and what may be known.

Leave-one-out: the last event of a user is the test target and the one before it is the validation target. The same rule
is applied a second time to the events that have a query. Many MovieLens users rate dozens of films in one second. The
order within that second is unknown, so it is drawn at random, once; and the history of a target holds only events of
earlier seconds, whatever order was drawn.

Data without a search log get constructed queries: the words of an item's category path (Ai et al. 2017, as GenSAR does
for Amazon), lower-cased and without stop words. Of a repeated word only the last occurrence is kept, so
``("Beauty", "Skin Care", "Hair & Skin")`` becomes "beauty care hair skin".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "TEST",
    "TRAIN",
    "VALID",
    "Dataset",
    "Events",
    "History",
    "IntArray",
    "Source",
    "Task",
    "attach_queries",
    "build_histories",
    "first_users",
    "path_query",
    "queries_of_paths",
    "seen",
    "targets",
    "words",
]

IntArray = npt.NDArray[np.signedinteger[Any]]
Task = Literal["recommendation", "search"]
Path = tuple[str, ...]

TRAIN, VALID, TEST = 0, 1, 2

# Both are fixed and independent of the seed of a run: runs with other seeds are tested on the same data.
ORDER_SEED = 2025
SEARCH_SEED = 2024

STOP_WORDS = frozenset("a an and are as at by for from in into is it its of on or other s that the to with".split())


@final
@dataclass(frozen=True)
class Dataset:
    """Items, queries and histories; an item, a query or a user is represented by its index.

    Parameters
    ----------
    name : str
        For example "ml-100k".
    item_keys : tuple of str
        The source's own ids.
    item_titles : tuple of str
        For people; may be empty strings.
    item_texts : tuple of str
        What is embedded and indexed by BM25: title, brand, categories, year. Never empty.
    query_texts : tuple of str
    query_items : tuple of ndarray, dtype int64
        Items that belong to each query, ascending.
    query_note : str
        One sentence: what the queries are and how they were made.
    histories : tuple of History
        One per user.
    """

    name: str
    item_keys: tuple[str, ...]
    item_titles: tuple[str, ...]
    item_texts: tuple[str, ...]
    query_texts: tuple[str, ...]
    query_items: tuple[IntArray, ...]
    query_note: str
    histories: tuple["History", ...]

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_keys)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.histories)

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self.query_texts)


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
        """Return the indices of the events before the first target of `split`, or of a later split, in either task."""
        held_out = (self.split >= split) | (self.search_split >= split)
        return np.arange(np.argmax(held_out) if held_out.any() else len(self.item))

    def train_events(self) -> IntArray:
        """Return the indices of the events that are train in both tasks and precede every valid and test event."""
        return self.before_split(VALID)


def first_users(dataset: Dataset, n_users: int | None) -> Dataset:
    """Return the data set with its first users only (None: all); the catalogue stays whole."""
    return replace(dataset, histories=dataset.histories[:n_users])


def targets(histories: Sequence[History], *, task: Task, split: int) -> IntArray:
    """Return the (user, event) pairs to predict, shape (n_targets, 2), dtype int64, ordered by user."""
    pairs = [
        (user, event)
        for user, history in enumerate(histories)
        for event in np.flatnonzero((history.split if task == "recommendation" else history.search_split) == split)
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def seen(history: History, event: int) -> IntArray:
    """Return the items left out of every ranking for `event`: those of all events before it, except its own item.

    Events of the same second count: the model does not know them, but the user does have those items.

    Returns
    -------
    items : ndarray of shape (n_seen,), dtype int64
        Sorted, unique.
    """
    return np.setdiff1d(history.item[:event], history.item[event])


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
class Source:
    """What a loader has read: the fields of `Dataset`, with one list of events instead of the histories."""

    name: str
    item_keys: tuple[str, ...]
    item_titles: tuple[str, ...]
    item_texts: tuple[str, ...]
    query_texts: tuple[str, ...]
    query_items: tuple[IntArray, ...]
    query_note: str
    n_users: int
    events: Events

    def dataset(self) -> Dataset:
        """Return the data set: the events sorted and split, user by user."""
        same = {field.name: getattr(self, field.name) for field in fields(Dataset) if field.name != "histories"}
        return Dataset(**same, histories=build_histories(self.events, n_users=self.n_users))


def build_histories(events: Events, *, n_users: int) -> tuple[History, ...]:
    """Sort the events by time, per user, and split them; equal times come in an order drawn with a fixed seed.

    A user with fewer than three events (searches) has no validation and test event (search): all of them are
    for training. A split that the source prescribes is kept; train then comes before valid and test within one second.
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


def words(text: str) -> list[str]:
    """Return the lower-case words of a text; a possessive loses its 's, as in "children's"."""
    return re.findall(r"[^\W_]+", text.lower().replace("'s ", " ").removesuffix("'s"))


def path_query(path: Path) -> str:
    """Return the query of one category path, "" if the path has fewer than two levels."""
    if len(path) < 2:
        return ""
    terms = [word for level in path for word in words(level) if word not in STOP_WORDS]
    return " ".join(term for place, term in enumerate(terms) if term not in terms[place + 1 :])


def queries_of_paths(paths: Sequence[Sequence[Path]]) -> tuple[tuple[str, ...], tuple[IntArray, ...]]:
    """Return the distinct queries, in order of first appearance, and the items that belong to each.

    Parameters
    ----------
    paths : sequence of sequence of tuple of str
        The category paths of each item.
    """
    members: dict[str, list[int]] = {}
    for item, item_paths in enumerate(paths):
        for text in dict.fromkeys(path_query(path) for path in item_paths):
            if text:
                members.setdefault(text, []).append(item)
    return tuple(members), tuple(np.array(items, dtype=np.int64) for items in members.values())


def attach_queries(items: IntArray, query_items: Sequence[IntArray], *, n_items: int) -> IntArray:
    """Draw one query of its item for each interaction, uniformly; -1 where the item has none.

    Parameters
    ----------
    items : ndarray of shape (n_events,), dtype int64

    Returns
    -------
    queries : ndarray of shape (n_events,), dtype int64
    """
    of_item: list[list[int]] = [[] for _ in range(n_items)]
    for query, members in enumerate(query_items):
        for item in members:
            of_item[item].append(query)
    draws = np.random.default_rng(SEARCH_SEED).random(len(items))
    return np.array(
        [
            of_item[item][int(draw * len(of_item[item]))] if of_item[item] else -1
            for item, draw in zip(items, draws, strict=True)
        ],
        dtype=np.int64,
    )
