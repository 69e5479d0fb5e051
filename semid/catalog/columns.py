"""Which columns of a table hold codes: code_0, code_1, ..; of a view named semantic, semantic_code_0, .."""

import re
from collections.abc import Iterable
from typing import Any

from semid.errors import FormatError

__all__ = ["levels_of", "numbered", "stem_of", "views_of"]

CODE = "code_"


def stem_of(view: str | None) -> str:
    """Return what stands before the level in the names of a view's columns."""
    return CODE if view is None else f"{view}_{CODE}"


def numbered(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names that end in a number, in order of their numbers, by what stands before it.

    Examples
    --------
    >>> numbered(["code_10", "item_id", "code_2", "level_0"])
    {'code_': ['code_2', 'code_10'], 'level_': ['level_0']}
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if match := re.fullmatch(r"(.*?)([0-9]+)", name, re.DOTALL):
            found.setdefault(match[1], []).append((int(match[2]), name))
    return {stem: [name for _, name in sorted(columns)] for stem, columns in found.items()}


def views_of(names: Iterable[str]) -> list[str | None]:
    """Return the views whose codes a table has; None alone where it has codes of no view.

    Examples
    --------
    >>> views_of(["item_id", "semantic_code_0", "look_code_0"]), views_of(["code_0", "zip_code_1"]), views_of(["id"])
    (['semantic', 'look'], [None], [])
    """
    stems = numbered(names)
    if CODE in stems:
        return [None]
    return [stem.removesuffix(f"_{CODE}") for stem in stems if stem.endswith(f"_{CODE}")]


def levels_of(names: Iterable[str], stem: str, source: Any) -> list[str]:
    """Return the columns of the levels from the first to the last; a FormatError where one is missing.

    A table that other tools wrote may have its columns in any order.
    """
    found = numbered(names).get(stem, [])
    expected = [f"{stem}{level}" for level in range(max(1, len(found)))]
    if found != expected:
        raise FormatError(f"{source} has gaps: expected columns {expected}, got {found}. Number all levels.")
    return found
