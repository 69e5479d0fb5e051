"""interactions.csv of the neutral format."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from semid.errors import FormatError

from .history import TEST, TRAIN, VALID, IntArray
from .lines import integer, malformed, read_table

__all__ = ["Interactions", "check_order", "read_interactions", "read_split", "unknown_item"]

SPLITS = {"train": TRAIN, "valid": VALID, "test": TEST}


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


def read_interactions(path: Path, number: dict[str, int]) -> Interactions:
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
            raise unknown_item(path, line, row["item_id"])
        position = integer(row["position"], path=path, line=line, field="position")
        time = integer(row["timestamp"], path=path, line=line, field="timestamp")
        if event.setdefault((row["user_id"], position), len(rows)) != len(rows):
            got = f"position {position} of user {row['user_id']} again"
            raise malformed(path, line, expected="each position of a user once", got=got)
        has_split = "split" in row
        split = read_split(row, path=path, line=line) if has_split else TRAIN
        rows.append((line, users.setdefault(row["user_id"], len(users)), number[row["item_id"]], position, time, split))
    if not rows:
        raise malformed(path, 2, expected="an interaction per line", got="none", remedy="Write the file again.")
    lines, user, item, positions, times, splits = np.array(rows, dtype=np.int64).T
    check_order(path, lines, user, positions, times, expected="a timestamp not before that of the position before")
    if has_split:
        check_order(path, lines, user, positions, splits, expected="train before valid before test")
    split_or_none = splits.astype(np.int8) if has_split else None
    return Interactions(path, event, lines, user, item, positions, times, split_or_none)


def read_split(row: dict[str, str], *, path: Path, line: int) -> int:
    """Return the split of a row as `TRAIN`, `VALID` or `TEST`."""
    if row["split"] not in SPLITS:
        raise malformed(path, line, expected=f"a split of {list(SPLITS)}", got=repr(row["split"]))
    return SPLITS[row["split"]]


def check_order(
    path: Path, lines: IntArray, user: IntArray, position: IntArray, values: IntArray, *, expected: str
) -> None:
    """Raise FormatError where, inside one user, `values` fall while the position rises; names the line."""
    order = np.lexsort((position, user))
    falls = np.flatnonzero((np.diff(user[order]) == 0) & (np.diff(values[order]) < 0))
    if len(falls):
        raise malformed(path, int(lines[order[falls[0] + 1]]), expected=expected, got="an earlier one")


def unknown_item(path: Path, line: int, item_id: object) -> FormatError:
    """Return the error of a reference to an item that the items file does not have."""
    return malformed(
        path,
        line,
        expected="an item of the items file",
        got=f"unknown item id {str(item_id)!r}",
        remedy="Add the item, or remove the line.",
    )
