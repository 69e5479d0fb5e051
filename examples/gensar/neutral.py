"""Folders in the neutral format: items.jsonl, interactions.csv and, if searches are known, queries.jsonl, searches.csv.

Each file may be gzipped (.gz). Items have item_id, title and, if known, brand, categories ("A > B > C" paths),
description and the source's own id (asin or source_id); interactions have user_id, item_id, position, timestamp, split;
queries have query_id, text, item_ids; searches have user_id, query_id, item_id, position, split and name the
interaction they led to by user and position. The split is kept as it is; without that column, leave-one-out is applied.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from semid.errors import FormatError

from .history import Events, IntArray
from .lines import find_file, malformed, read_jsonl
from .neutral_events import read_interactions
from .neutral_searches import read_queries, read_searches
from .queries import attach_queries, queries_of_paths
from .source import Source

__all__ = ["read_neutral"]


class Items(NamedTuple):
    """The rows of items.jsonl; `number` maps an item_id to its index."""

    number: dict[str, int]
    keys: list[str]
    titles: list[str]
    texts: list[str]
    paths: list[list[tuple[str, ...]]]


def read_neutral(folder: Path) -> Source:
    """Read a folder in the neutral format.

    Raises
    ------
    FormatError
        If a file is missing or malformed, an item has no text, an id is unknown, a search does not fit the
        interaction that it names, or times and splits are not in order.
    """
    items = _read_items(_require(folder, "items.jsonl"))
    interactions = read_interactions(_require(folder, "interactions.csv"), items.number)
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
        queries = read_queries(_require(folder, "queries.jsonl"), items.number)
        searches = _require(folder, "searches.csv")
        query, search_split = read_searches(searches, queries, items.number, interactions)
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
