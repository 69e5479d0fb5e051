"""Queries for data without a search log: the terms of an item's category path (Ai et al. 2017, as GenSAR for Amazon).

For each path with two levels or more: all its words, lower-cased, without stop words, and of a repeated word only the
last occurrence. ``("Beauty", "Skin Care", "Hair & Skin")`` becomes "beauty care hair skin".
"""

import re
from collections.abc import Sequence

import numpy as np

from .history import IntArray

__all__ = ["attach_queries", "path_query", "queries_of_paths", "words"]

# Fixed, and apart from the seed of a run: the searches are data.
SEARCH_SEED = 2024

STOP_WORDS = frozenset("a an and are as at by for from in into is it its of on or other s that the to with".split())

Path = tuple[str, ...]


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
