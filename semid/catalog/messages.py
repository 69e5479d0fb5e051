"""Parts of messages: which view, how many rows."""

from semid.errors import InvalidValueError

__all__ = ["different_lengths", "title"]


def title(view: str | None) -> str:
    """Return the name of a view's codes for a message."""
    return "codes" if view is None else f"codes of view {view!r}"


def different_lengths(view: str | None, n_ids: int, n_rows: int) -> InvalidValueError:
    """Return the error for too few or too many rows."""
    return InvalidValueError(
        f"{title(view)} and item_ids have different lengths: expected {n_ids} rows, got {n_rows}. Give one row per id."
    )
