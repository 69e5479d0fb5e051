"""The data set that the example works on: items with texts, queries, and one history per user."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from semid.errors import FormatError

from .atomic import read_atomic
from .history import TEST, TRAIN, VALID, History, IntArray, Task, build_histories, seen, targets
from .movielens import read_movielens
from .neutral import read_neutral

__all__ = [
    "TEST",
    "TRAIN",
    "VALID",
    "Dataset",
    "History",
    "IntArray",
    "Task",
    "load_dataset",
    "seen",
    "targets",
]


@final
@dataclass(frozen=True)
class Dataset:
    """Items, queries and histories; an item, a query or a user is its index.

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
    histories: tuple[History, ...]

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


def load_dataset(source: str | Path | None) -> Dataset:
    """Load MovieLens-100K (None) or a folder in the neutral format or with RecBole atomic files.

    Raises
    ------
    FormatError
        If the folder is missing or holds neither format, or a file is not what it should be (the message names file,
        line and what was expected).
    OptionalDependencyError
        If `source` is None and the package that carries MovieLens-100K is not installed.
    """
    if source is None:
        read = read_movielens()
    else:
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise FormatError(
                f"no data folder: expected a folder, got {str(folder)!r}. "
                "Pass an existing folder, or leave the option out for MovieLens-100K."
            )
        if any((folder / name).exists() for name in ("items.jsonl", "items.jsonl.gz")):
            read = read_neutral(folder)
        elif any(folder.glob("*.inter")):
            read = read_atomic(folder)
        else:
            raise FormatError(
                f"no data in {str(folder)!r}: expected items.jsonl[.gz] and interactions.csv[.gz], or NAME.inter and "
                f"NAME.item (RecBole atomic files), got {sorted(p.name for p in folder.iterdir())[:8]}. "
                "Check the path."
            )
    return Dataset(
        name=read.name,
        item_keys=read.item_keys,
        item_titles=read.item_titles,
        item_texts=read.item_texts,
        query_texts=read.query_texts,
        query_items=read.query_items,
        query_note=read.query_note,
        histories=build_histories(read.events, n_users=read.n_users),
    )
