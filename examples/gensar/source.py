"""What every loader returns: items, queries and events as read, before histories are built."""

from dataclasses import dataclass
from typing import final

from .history import Events, IntArray

__all__ = ["Source"]


@final
@dataclass(frozen=True)
class Source:
    """Items, queries and events of one data set; the fields are those of `Dataset`, with the events still flat."""

    name: str
    item_keys: tuple[str, ...]
    item_titles: tuple[str, ...]
    item_texts: tuple[str, ...]
    query_texts: tuple[str, ...]
    query_items: tuple[IntArray, ...]
    query_note: str
    n_users: int
    events: Events
