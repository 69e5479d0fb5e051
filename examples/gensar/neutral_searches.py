"""queries.jsonl and searches.csv of the neutral format: which query led to which interaction."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .history import TRAIN, IntArray
from .lines import integer, malformed, read_jsonl, read_table
from .neutral_events import Interactions, check_order, read_split, unknown_item

__all__ = ["Queries", "read_queries", "read_searches"]


class Queries(NamedTuple):
    """The rows of queries.jsonl; `number` maps a query_id to its index."""

    path: Path
    number: dict[str, int]
    texts: list[str]
    items: list[IntArray]  # ascending, dtype int64
    kinds: set[str]


def read_queries(path: Path, number: dict[str, int]) -> Queries:
    """Read the file; `number` maps an item_id to its index.

    Raises
    ------
    FormatError
        If a line is malformed, repeats a query_id, has no text or no items, or names an unknown item.
    """
    queries = Queries(path, {}, [], [], set())
    for line, record in read_jsonl(path, fields=("query_id", "text", "item_ids")):
        query_id = str(record["query_id"])
        if query_id in queries.number:
            raise malformed(path, line, expected="each query_id once", got=f"{query_id} again")
        if not isinstance(record["text"], str) or not record["text"].strip():
            raise malformed(path, line, expected=f"a text for query {query_id}", got=repr(record["text"]))
        queries.number[query_id] = len(queries.texts)
        queries.texts.append(record["text"])
        queries.items.append(_members(path, line, record["item_ids"], number))
        queries.kinds.add(str(record.get("kind") or "not told"))
    return queries


def read_searches(
    path: Path, queries: Queries, number: dict[str, int], interactions: Interactions
) -> tuple[IntArray, IntArray | None]:
    """Return the query that led to each interaction and the split of that search, both -1 where there is none.

    Returns
    -------
    query : ndarray of shape (n_events,), dtype int64
    split : ndarray of shape (n_events,), dtype int8, or None where the files have no split column

    Raises
    ------
    FormatError
        If a line is malformed, does not fit the interaction it names, or a split falls while the position rises.
    """
    members = [set(items.tolist()) for items in queries.items]
    query_of = np.full(len(interactions.user), -1, dtype=np.int64)
    split_of = np.full(len(query_of), -1, dtype=np.int8)
    line_of = np.zeros(len(query_of), dtype=np.int64)
    has_split = interactions.split is not None
    for line, row in read_table(path, delimiter=",", required=("user_id", "query_id", "item_id", "position")):
        if ("split" in row) != has_split:
            expected = f"a split column in both this file and {interactions.path.name}, or in neither"
            raise malformed(path, 1, expected=expected, got="it in one of them", remedy="Add it, or remove it.")
        position = integer(row["position"], path=path, line=line, field="position")
        event = interactions.event.get((row["user_id"], position))
        if event is None:
            got = f"user {row['user_id']}, position {position}"
            raise malformed(path, line, expected=f"an interaction of {interactions.path.name}", got=got)
        if row["item_id"] not in number:
            raise unknown_item(path, line, row["item_id"])
        if row["query_id"] not in queries.number:
            got = f"unknown query id {row['query_id']!r}"
            raise malformed(path, line, expected=f"a query of {queries.path.name}", got=got)
        item, query = number[row["item_id"]], queries.number[row["query_id"]]
        if item != interactions.item[event]:
            expected = f"the item of line {interactions.line[event]} of {interactions.path.name}"
            raise malformed(path, line, expected=expected, got=f"item {row['item_id']}")
        if item not in members[query]:
            expected = f"an item that query {row['query_id']} lists in {queries.path.name}"
            raise malformed(path, line, expected=expected, got=f"item {row['item_id']}")
        if query_of[event] >= 0:
            raise malformed(path, line, expected="one search per interaction", got=f"another of line {line_of[event]}")
        query_of[event], line_of[event] = query, line
        split_of[event] = read_split(row, path=path, line=line) if has_split else TRAIN
    if not has_split:
        return query_of, None
    rows = np.flatnonzero(query_of >= 0)
    check_order(
        path,
        line_of[rows],
        interactions.user[rows],
        interactions.position[rows],
        split_of[rows],
        expected="train before valid before test",
    )
    return query_of, split_of


def _members(path: Path, line: int, item_ids: Any, number: dict[str, int]) -> IntArray:
    if not isinstance(item_ids, list) or not item_ids:
        raise malformed(path, line, expected="item_ids as a list of item ids", got=repr(item_ids)[:60])
    for item_id in item_ids:
        if str(item_id) not in number:
            raise unknown_item(path, line, item_id)
    return np.unique(np.array([number[str(item_id)] for item_id in item_ids], dtype=np.int64))
