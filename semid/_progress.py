"""Progress bars for inner loops, shown only where a program at a terminal asks for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

__all__ = ["progress_bar", "show_progress"]

_shown: ContextVar[bool] = ContextVar("semid_progress", default=False)


@contextmanager
def show_progress() -> Iterator[None]:
    """Show the bars of everything that runs inside the block, in this thread and on a terminal."""
    token = _shown.set(True)
    try:
        yield
    finally:
        _shown.reset(token)


def progress_bar(label: str, *, total: int, unit: str = "rows") -> Any:
    """Return a tqdm bar on stderr, to be used in a ``with`` block; tasks under two seconds show no bar."""
    disable = None if _shown.get() else True
    return tqdm(desc=label, total=total, unit=unit, unit_scale=True, delay=2, leave=False, disable=disable)
