"""Folders of plain files: items.jsonl, interactions.csv and, if searches are known, queries.jsonl, searches.csv.

Each file may be gzipped (.gz). Items have item_id, title and, if known, brand, categories ("A > B > C" paths),
description and the source's own id (asin or source_id); interactions have user_id, item_id, position, timestamp, split;
queries have query_id, text, item_ids; searches have user_id, query_id, item_id, position, split and name the
interaction they led to by user and position. The split is kept as it is; without that column, leave-one-out is applied.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from semid.errors import FormatError

from .dataset import TEST, TRAIN, VALID, Events, IntArray, Source, attach_queries, queries_of_paths
from .files import find_file, integer, malformed, read_jsonl, read_table

__all__ = ["read_neutral"]

SPLITS = {"train": TRAIN, "valid": VALID, "test": TEST}


def read_neutral(folder: Path) -> Source:
    """Read a folder of plain files.

    Raises
    ------
    FormatError
        If a file is missing or malformed, an item has no text, an id is unknown, a search does not fit the
        interaction that it names, or times and splits are not in order.
    """
    items = _read_items(_require(folder, "items.jsonl"))
    interactions = _read_interactions(_require(folder, "interactions.csv"), items.number)
    texts: tuple[str, ...]
    members: tuple[IntArray, ...]
    search_split: IntArray | None
    if find_file(folder, "queries.jsonl") is None and find_file(folder, "searches.csv") is None:
        texts, members = queries_of_paths(items.paths)
        query = attach_queries(interactions.item, members, n_items=len(items.keys))
        split = interactions.split
        search_split = None if split is None else np.where(query >= 0, split, -1).astype(np.int8)
        note = (
            "Queries are constructed, not a search log: the words of a category path of the item, lower-cased, stop "
            "words and repeated words removed; each interaction gets one search, a seeded random query of its item."
        )
    else:
        queries = _read_queries(_require(folder, "queries.jsonl"), items.number)
        searches = _require(folder, "searches.csv")
        query, search_split = _read_searches(searches, queries, items.number, interactions)
        texts, members = tuple(queries.texts), tuple(queries.items)
        kinds = ", ".join(sorted(queries.kinds))
        note = f"Queries and searches are read from the data folder; {queries.path.name} gives their kind as: {kinds}."
    return Source(
        name=folder.resolve().name,
        item_keys=tuple(items.keys),
        item_titles=tuple(items.titles),
        item_texts=tuple(items.texts),
        query_texts=texts,
        query_items=members,
        query_note=note,
        n_users=len(np.unique(interactions.user)),
        events=Events(interactions.user, interactions.item, query, interactions.time, interactions.split, search_split),
    )


def _require(folder: Path, name: str) -> Path:
    path = find_file(folder, name)
    if path is None:
        found = sorted(path.name for path in folder.iterdir())[:8]
        raise FormatError(
            f"{folder} is incomplete: expected {name} or {name}.gz, got {found}. "
            "Add it; items and interactions are always needed, queries and searches together or not at all."
        )
    return path


class Items(NamedTuple):
    """The rows of items.jsonl; `number` maps an item_id to its index."""

    number: dict[str, int]
    keys: list[str]
    titles: list[str]
    texts: list[str]
    paths: list[list[tuple[str, ...]]]


def _read_items(path: Path) -> Items:
    items = Items({}, [], [], [], [])
    for line, record in read_jsonl(path, fields=("item_id", "title")):
        item_id = str(record["item_id"])
        if item_id in items.number:
            raise malformed(path, line, expected="each item_id once", got=f"{item_id} again")
        categories = record.get("categories") or []
        if not isinstance(categories, list) or not all(isinstance(category, str) for category in categories):
            raise malformed(path, line, expected="categories as a list of strings", got=repr(categories)[:60])
        fields = (record["title"], record.get("brand"), "; ".join(categories), record.get("description"))
        text = ". ".join(str(field).strip() for field in fields if field and str(field).strip())
        if not text:
            raise malformed(
                path,
                line,
                expected=f"a title, brand, categories or description for item {item_id}",
                got="no text",
                remedy="Give the item a text, or remove it and its interactions.",
            )
        items.number[item_id] = len(items.keys)
        items.keys.append(str(record.get("asin") or record.get("source_id") or item_id))
        items.titles.append(str(record["title"] or ""))
        items.texts.append(text)
        items.paths.append([tuple(category.split(" > ")) for category in categories])
    if not items.keys:
        raise malformed(path, 1, expected="an item per line", got="none", remedy="Write the file again.")
    if len(set(items.keys)) < len(items.keys):
        items.keys[:] = items.number  # the source's own ids repeat; an item_id does not
    return items


class Interactions(NamedTuple):
    """The rows of interactions.csv; all arrays have shape (n_events,), those not named otherwise dtype int64."""

    path: Path
    event: dict[tuple[str, int], int]  # (user_id, position) -> index of the event
    line: IntArray
    user: IntArray
    item: IntArray
    position: IntArray
    time: IntArray
    split: IntArray | None  # dtype int8; None where the file has no split column


def _read_interactions(path: Path, number: dict[str, int]) -> Interactions:
    """Read the file; `number` maps an item_id to its index.

    Raises
    ------
    FormatError
        If a line is malformed, names an unknown item or a (user, position) twice, or if time or split fall while the
        position rises.
    """
    users: dict[str, int] = {}
    event: dict[tuple[str, int], int] = {}
    rows: list[tuple[int, ...]] = []
    has_split = False
    for line, row in read_table(path, delimiter=",", required=("user_id", "item_id", "position", "timestamp")):
        if row["item_id"] not in number:
            raise _unknown_item(path, line, row["item_id"])
        position = integer(row["position"], path=path, line=line, field="position")
        time = integer(row["timestamp"], path=path, line=line, field="timestamp")
        if event.setdefault((row["user_id"], position), len(rows)) != len(rows):
            got = f"position {position} of user {row['user_id']} again"
            raise malformed(path, line, expected="each position of a user once", got=got)
        has_split = "split" in row
        split = _read_split(row, path=path, line=line) if has_split else TRAIN
        rows.append((line, users.setdefault(row["user_id"], len(users)), number[row["item_id"]], position, time, split))
    if not rows:
        raise malformed(path, 2, expected="an interaction per line", got="none", remedy="Write the file again.")
    lines, user, item, positions, times, splits = np.array(rows, dtype=np.int64).T
    _check_order(path, lines, user, positions, times, expected="a timestamp not before that of the position before")
    if has_split:
        _check_order(path, lines, user, positions, splits, expected="train before valid before test")
    split_or_none = splits.astype(np.int8) if has_split else None
    return Interactions(path, event, lines, user, item, positions, times, split_or_none)


class Queries(NamedTuple):
    """The rows of queries.jsonl; `number` maps a query_id to its index."""

    path: Path
    number: dict[str, int]
    texts: list[str]
    items: list[IntArray]  # ascending, dtype int64
    kinds: set[str]


def _read_queries(path: Path, number: dict[str, int]) -> Queries:
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


def _members(path: Path, line: int, item_ids: Any, number: dict[str, int]) -> IntArray:
    if not isinstance(item_ids, list) or not item_ids:
        raise malformed(path, line, expected="item_ids as a list of item ids", got=repr(item_ids)[:60])
    for item_id in item_ids:
        if str(item_id) not in number:
            raise _unknown_item(path, line, item_id)
    return np.unique(np.array([number[str(item_id)] for item_id in item_ids], dtype=np.int64))


def _read_searches(
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
            raise _unknown_item(path, line, row["item_id"])
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
        split_of[event] = _read_split(row, path=path, line=line) if has_split else TRAIN
    if not has_split:
        return query_of, None
    rows = np.flatnonzero(query_of >= 0)
    _check_order(
        path,
        line_of[rows],
        interactions.user[rows],
        interactions.position[rows],
        split_of[rows],
        expected="train before valid before test",
    )
    return query_of, split_of


def _read_split(row: dict[str, str], *, path: Path, line: int) -> int:
    """Return the split of a row as `TRAIN`, `VALID` or `TEST`."""
    if row["split"] not in SPLITS:
        raise malformed(path, line, expected=f"a split of {list(SPLITS)}", got=repr(row["split"]))
    return SPLITS[row["split"]]


def _check_order(
    path: Path, lines: IntArray, user: IntArray, position: IntArray, values: IntArray, *, expected: str
) -> None:
    """Raise FormatError where, inside one user, `values` fall while the position rises; names the line."""
    order = np.lexsort((position, user))
    falls = np.flatnonzero((np.diff(user[order]) == 0) & (np.diff(values[order]) < 0))
    if len(falls):
        raise malformed(path, int(lines[order[falls[0] + 1]]), expected=expected, got="an earlier one")


def _unknown_item(path: Path, line: int, item_id: object) -> FormatError:
    """Return the error of a reference to an item that the items file does not have."""
    return malformed(
        path,
        line,
        expected="an item of the items file",
        got=f"unknown item id {str(item_id)!r}",
        remedy="Add the item, or remove the line.",
    )
