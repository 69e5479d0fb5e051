"""Parts of messages: which view, which ids."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from semid.errors import InvalidValueError

__all__ = ["different_lengths", "shown", "title"]


def title(view: str | None) -> str:
    """Return the name of a view's codes for a message."""
    return "codes" if view is None else f"codes of view {view!r}"


def different_lengths(view: str | None, n_ids: int, n_rows: int) -> InvalidValueError:
    """Return the error for too few or too many rows."""
    return InvalidValueError(
        f"{title(view)} and item_ids have different lengths: expected {n_ids} rows, got {n_rows}. Give one row per id."
    )


def shown(values: Sequence[Any]) -> str:
    """Return the first few values as text for a message."""
    shown = [value.item() if isinstance(value, np.generic) else value for value in values[:5]]
    return f"{shown}{f' and {len(values) - 5} more' if len(values) > 5 else ''}"
