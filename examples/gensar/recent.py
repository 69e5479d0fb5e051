"""The paper's history: the last events of each form, merged by time; strictly before the target, or as published.

The authors' code keeps two lists per user, of interactions and of search sessions, and each target points to a place in
both. An interaction that a search led to stands in both of them, so a prompt tells it twice.

Strict: both lists hold events of earlier times only.

Published: three habits let a target into its own prompt, where a user has more than one event at one time (a day in the
authors' data, a second in MovieLens).

1. Within one time the list of interactions has another order than the targets have: theirs is by rating. A
   recommendation target points to its own place, and the other order may have put it in front of that.
2. A search target points behind all interactions of its time. Its own interaction is one of them.
3. Only as the last entry of the list is the target then taken out.

The two IDs of an item begin with the same codes, so a search target whose interaction was told is half written already.
Our data carry no ratings; the other order is that of the item's number. Sessions keep the order of the targets.
"""

import numpy as np

from semid.errors import InvalidValueError

from .dataset import History, IntArray, Task
from .presets import BackboneName, Recipe

__all__ = ["HISTORIES", "Past", "check_history", "past_events"]

HISTORIES = ("strict", "published")
N_RECENT = 5

# Events of a prompt, oldest first, and whether each is written as a search.
Past = list[tuple[int, bool]]


def check_history(recipe: Recipe, backbone: BackboneName) -> None:
    """Refuse what the backbone cannot do.

    Raises
    ------
    InvalidValueError
        If the history is not `strict` and whole, and the backbone learns from whole histories.
    """
    if recipe.history not in HISTORIES:
        raise InvalidValueError(f"--history is unknown: expected one of {HISTORIES}, got {recipe.history!r}.")
    if recipe.n_recent is not None and recipe.n_recent < 1:
        raise InvalidValueError(f"--recent is no number of events: expected 1 or more, got {recipe.n_recent}.")
    if backbone == "causal" and (recipe.history != "strict" or recipe.n_recent is not None):
        raise InvalidValueError(
            f"the causal backbone learns from whole histories: expected --history strict without --recent, got "
            f"{recipe.history} and {recipe.n_recent}. Pass --backbone t5."
        )


def past_events(history: History, event: int, *, task: Task, recipe: Recipe) -> Past | None:
    """Return the events of the prompt of a target by the paper's rule; None where the recipe asks for the whole past.

    Parameters
    ----------
    history : History
    event : int
        The target.
    task : {"recommendation", "search"}
    recipe : Recipe
        Its `history` and `n_recent` count; the paper's 5 where `n_recent` is None.

    Returns
    -------
    past : list of (event, as_search), or None
        At most `n_recent` interactions and as many searches, by time; at one time, interactions first.
    """
    if recipe.history == "published":
        items, searches = _published(history, event, task=task)
    elif recipe.n_recent is None:
        return None
    else:
        items = history.before(event)
        searches = items[history.query[items] >= 0]
    n_recent = recipe.n_recent or N_RECENT
    items, searches = items[-n_recent:], searches[-n_recent:]
    both = np.concatenate([items, searches])
    order = np.argsort(history.time[both], kind="stable")
    return [(int(both[at]), bool(at >= len(items))) for at in order]


def _published(history: History, event: int, *, task: Task) -> tuple[IntArray, IntArray]:
    listed = np.lexsort((history.item, history.time))
    is_search = history.query >= 0
    if task == "recommendation":
        items = listed[:event]
        earlier = np.arange(len(history.before(event)))
        return items, earlier[is_search[earlier]]
    items = listed[: np.searchsorted(history.time, history.time[event], side="right")]
    if history.item[items[-1]] == history.item[event]:
        items = items[:-1]
    in_front = np.arange(event)
    return items, in_front[is_search[in_front]]
