"""Events written as tokens, and the prompt that asks for the item of one event.

An event is written in one of two forms:

    recommendation   <rec_item> ID                            with the item's collaborative ID
    search           <src_query> words <src_item> ID          with the item's semantic ID

A history merges both. What a target may see are the events of earlier seconds, and of the target itself the head alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .dataset import History, Task
from .language import Language

__all__ = ["Request", "draw_forms", "event_parts", "prompt"]

BoolArray = npt.NDArray[np.bool_]


class Request(NamedTuple):
    """One target: the event of a user that a task has to find."""

    user: int
    event: int
    task: Task


def draw_forms(history: History, rng: np.random.Generator, *, search_share: float) -> BoolArray:
    """Draw which events are written as searches, shape (n_events,), dtype bool; only events with a query can be."""
    forms: BoolArray = (rng.random(len(history.item)) < search_share) & (history.query >= 0)
    return forms


def event_parts(
    language: Language, history: History, event: int, *, as_search: bool
) -> tuple[tuple[int, ...], list[int]]:
    """Return head and ID of an event, as token ids; the model has to find the ID when it has read the head."""
    task: Task = "search" if as_search else "recommendation"
    head = language.search_heads[history.query[event]] if as_search else language.rec_head
    return head, language.id_tokens[task][history.item[event]].tolist()


def prompt(
    language: Language,
    history: History,
    event: int,
    *,
    task: Task,
    forms: BoolArray,
    max_tokens: int,
    past: Sequence[tuple[int, bool]] | None = None,
) -> list[int]:
    """Write the history of an event and its head: everything the model may know of the target.

    Parameters
    ----------
    event : int
        The target; without `past`, the history holds only events of earlier seconds.
    task : {"recommendation", "search"}
    forms : ndarray of shape (n_events,), dtype bool
        Which events of the history are written as searches.
    max_tokens : int
        The oldest events go, until no more tokens are left than that.
    past : sequence of (event, as_search), optional
        What to tell instead of all earlier events in the drawn forms, oldest first.

    Returns
    -------
    tokens : list of int
    """
    head, _ = event_parts(language, history, event, as_search=task == "search")
    parts: list[list[int]] = []
    room = max_tokens - len(head)
    told = [(int(e), bool(forms[e])) for e in history.before(event)] if past is None else past
    for earlier, as_search in reversed(told):
        past_head, sid = event_parts(language, history, earlier, as_search=as_search)
        room -= len(past_head) + len(sid)
        if room < 0:
            break
        parts.append([*past_head, *sid])
    return [token for part in reversed(parts) for token in part] + list(head)
