"""The paper's history as its authors published it, which lets a target into its own prompt; --history published.

The authors' code keeps two lists per user, of interactions and of search sessions, and each target points to a place in
both. `strict_past` takes only events of earlier times from either list. Three habits of the published code take more,
where a user has several events at one time (a day in the authors' data, a second in MovieLens):

1. Within one time, the list of interactions is ordered by rating, and the targets are ordered otherwise. A
   recommendation target points to its own place, and the other order may have put the target itself before that place.
2. A search target points behind all interactions of its time. Its own interaction is one of them.
3. The target is removed from the list only if it is the last entry.

Both IDs of an item begin with the same codes, so a search whose own interaction is in the prompt is half answered
there. Our data have no ratings; the other order is by the item's number. Sessions keep the order of the targets.
"""

import numpy as np

from semid.errors import InvalidValueError

from ..dataset import History, Task
from ..language import Past, last_of_both
from ..presets import BackboneName, Recipe

__all__ = ["check_history", "published_past"]

N_RECENT = 5


def published_past(history: History, event: int, *, task: Task, n_recent: int | None) -> Past:
    """Return the events that the published prompt of a target holds: the last `n_recent` of each form; None: 5."""
    listed = np.lexsort((history.item, history.time))
    is_search = history.query >= 0
    if task == "recommendation":
        items, searches = listed[:event], np.arange(len(history.before(event)))
    else:
        items = listed[: np.searchsorted(history.time, history.time[event], side="right")]
        if history.item[items[-1]] == history.item[event]:
            items = items[:-1]
        searches = np.arange(event)
    return last_of_both(history, items, searches[is_search[searches]], n_recent=n_recent or N_RECENT)


def check_history(recipe: Recipe, backbone: BackboneName) -> None:
    """Raise InvalidValueError if the history is not strict and the backbone learns from whole histories."""
    if backbone == "causal" and recipe.history != "strict":
        raise InvalidValueError(
            f"the causal backbone learns from whole histories: expected --history strict, got {recipe.history}. "
            "Pass --backbone t5."
        )
