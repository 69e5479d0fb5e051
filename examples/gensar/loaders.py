"""Where the data come from: MovieLens-100K, RecBole atomic files, or a folder of plain files (see `neutral`).

RecBole's files are NAME.inter and NAME.item, tab-separated, with a header of ``field:type``. An interaction is a row of
NAME.inter, whatever its rating. Such files hold no search log, so queries are made from categories and decade.

MovieLens-100K (Harper and Konstan 2015, doi 10.1145/2827872) is such a folder inside the package recbole, which is read
as data and never imported. All 100,000 ratings count as interactions, whatever the stars, and no film or user is left
out: every user has at least 20 ratings, and the 333 films with fewer than five are in the catalogue that a model ranks.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from semid.errors import FormatError

from .dataset import Dataset, Events, Source, attach_queries, queries_of_paths
from .files import check_sha256, integer, malformed, package_folder, read_table
from .neutral import read_neutral

__all__ = ["load_dataset", "read_atomic", "read_movielens"]

REQUIREMENT = "recbole==1.2.1"
SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}

TITLE_FIELDS = ("movie_title", "title", "item_title", "name", "item_name")
CATEGORY_FIELDS = ("class", "genre", "genres", "categories", "category")
YEAR_FIELDS = ("release_year", "year")


def load_dataset(source: str | Path | None) -> Dataset:
    """Load MovieLens-100K (None) or a folder of plain files or with RecBole atomic files.

    Raises
    ------
    FormatError
        If the folder is missing or holds neither format, or a file is malformed (the message names file, line and what
        was expected).
    OptionalDependencyError
        If `source` is None and the package that carries MovieLens-100K is not installed.
    """
    if source is None:
        return read_movielens().dataset()
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise FormatError(
            f"no data folder: expected a folder, got {str(folder)!r}. "
            "Pass an existing folder, or leave the option out for MovieLens-100K."
        )
    if any((folder / name).exists() for name in ("items.jsonl", "items.jsonl.gz")):
        return read_neutral(folder).dataset()
    if any(folder.glob("*.inter")):
        return read_atomic(folder).dataset()
    raise FormatError(
        f"no data in {str(folder)!r}: expected items.jsonl[.gz] and interactions.csv[.gz], or NAME.inter and "
        f"NAME.item (RecBole atomic files), got {sorted(p.name for p in folder.iterdir())[:8]}. "
        "Check the path."
    )


def read_movielens() -> Source:
    """Read MovieLens-100K.

    Raises
    ------
    OptionalDependencyError
        If recbole is not installed.
    FormatError
        If its files are not the published ones.
    """
    folder = package_folder("recbole", requirement=REQUIREMENT) / "dataset_example" / "ml-100k"
    for name, digest in SHA256.items():
        check_sha256(folder / name, digest, requirement=REQUIREMENT)
    return read_atomic(folder)


def read_atomic(folder: Path) -> Source:
    """Read the one NAME.inter and NAME.item of a folder.

    Raises
    ------
    FormatError
        If a file is missing or malformed, an item has no text, or an interaction names an unknown item.
    """
    interactions, items = _only(folder, ".inter"), _read_items(_only(folder, ".item"))
    number = {key: index for index, key in enumerate(items)}
    paths = [item.paths for item in items.values()]
    query_texts, query_items = queries_of_paths(paths)
    users, item, time = _read_interactions(interactions, number)
    events = Events(
        user=np.array(users, dtype=np.int64),
        item=np.array(item, dtype=np.int64),
        query=attach_queries(np.array(item, dtype=np.int64), query_items, n_items=len(items)),
        time=np.array(time, dtype=np.int64),
    )
    return Source(
        name=interactions.stem,
        item_keys=tuple(items),
        item_titles=tuple(item.title for item in items.values()),
        item_texts=tuple(item.text for item in items.values()),
        query_texts=query_texts,
        query_items=query_items,
        query_note=(
            "Queries are constructed, not a search log and not user tags (this source has neither): the words of a "
            "category path of the item (category and decade where the year is known; one path per category and one of "
            "all its categories), lower-cased, stop words and repeated words removed; each interaction gets one "
            "search, a seeded random query of its item."
        ),
        n_users=len(set(users)),
        events=events,
    )


class Item(NamedTuple):
    """What the example uses of one row of NAME.item."""

    title: str
    brand: str
    root: str
    categories: tuple[str, ...]
    year: int | None

    @property
    def decade(self) -> str:
        """The decade as in "1990s"; "" if the year is unknown."""
        return "" if self.year is None else f"{self.year // 10 * 10}s"

    @property
    def text(self) -> str:
        """What is embedded and indexed: title, year, brand, categories and decade."""
        titled = self.title if self.year is None else f"{self.title} ({self.year})".strip()
        kinds = " ".join(part for part in (self.decade, self.root.lower()) if part) if self.categories else self.decade
        return ". ".join(part for part in (titled, self.brand, ", ".join(self.categories), kinds) if part)

    @property
    def paths(self) -> list[tuple[str, ...]]:
        """Category paths; with a year: root > category > decade, per category and for all categories together."""
        root = (self.root,) if self.root else ()
        if self.year is None:
            return [(*root, *self.categories)]
        paths = [(*root, category, self.decade) for category in self.categories]
        return [*paths, (*root, *self.categories, self.decade)] if len(paths) != 1 else paths


def _only(folder: Path, suffix: str) -> Path:
    found = sorted(folder.glob(f"*{suffix}"))
    if len(found) != 1:
        raise FormatError(
            f"{folder} is no RecBole folder: expected one file *{suffix}, got {[path.name for path in found]}. "
            "Put NAME.inter and NAME.item of one data set into the folder."
        )
    return found[0]


def _read_items(path: Path) -> dict[str, Item]:
    items: dict[str, Item] = {}
    for line, row in read_table(path, delimiter="\t", required=("item_id",), quoting=csv.QUOTE_NONE):
        key = row["item_id"]
        if key in items:
            raise malformed(path, line, expected="each item once", got=f"item {key!r} again")
        items[key] = item = _item(row)
        if not item.text:
            raise malformed(
                path,
                line,
                expected=f"a title or categories for item {key!r}",
                got="no text",
                remedy="Give the item a text, or remove it and its interactions.",
            )
    if not items:
        raise malformed(path, 2, expected="an item per line", got="none", remedy="Write the file again.")
    return items


def _item(row: Mapping[str, str]) -> Item:
    is_film = "movie_title" in row
    title = _first(row, TITLE_FIELDS)
    year = re.fullmatch(r"\d{4}", _first(row, YEAR_FIELDS)) or re.search(r"(?<=\()\d{4}(?=\)$)", title)
    title = re.sub(r"\s*\(\d{4}\)$", "", title)
    if is_film:
        # The files sort by title: "Usual Suspects, The".
        title = re.sub(r"^(.*), (The|A|An|Le|La|Les|L'|Il|El|Das|Der|Die)( \(.*\))?$", r"\2 \1\3", title).replace(
            "L' ", "L'"
        )
    raw = _first(row, CATEGORY_FIELDS)
    categories = raw.split(", ") if ", " in raw else raw.split(" ")
    return Item(
        title=title,
        brand=row.get("brand", ""),
        root="Movies" if is_film else "",
        categories=tuple(name.strip("'\"") for name in categories if name and name != "unknown"),
        year=int(year.group()) if year else None,
    )


def _read_interactions(path: Path, number: Mapping[str, int]) -> tuple[list[int], list[int], list[int]]:
    users: dict[str, int] = {}
    user, item, time = [], [], []
    fields = ("user_id", "item_id", "timestamp")
    for line, row in read_table(path, delimiter="\t", required=fields, quoting=csv.QUOTE_NONE):
        if row["item_id"] not in number:
            raise malformed(
                path,
                line,
                expected="an item of the .item file",
                got=f"unknown item id {row['item_id']!r}",
                remedy="Add the item, or remove the line.",
            )
        user.append(users.setdefault(row["user_id"], len(users)))
        item.append(number[row["item_id"]])
        time.append(integer(row["timestamp"], path=path, line=line, field="timestamp"))
    if not user:
        raise malformed(path, 2, expected="an interaction per line", got="none", remedy="Write the file again.")
    return user, item, time


def _first(row: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((row[name] for name in names if row.get(name)), "")
