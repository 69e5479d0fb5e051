"""One step of a beam search: the best children of all beams of each request, on one trie or on one per request."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from semid._arrays import FloatArray, IntArray
from semid._checks import check_count
from semid.errors import InvalidValueError
from semid.kernels import kernel
from semid.trie.checks import FROM_WALK
from semid.trie.levels import Levels
from semid.trie.plain import FLOAT32, INT64, plain, plain_int64
from semid.trie.rank_lists import RankLists, check_n_lists
from semid.trie.restriction import Alive

if TYPE_CHECKING:
    from semid.trie.trie import Trie

__all__ = ["Selection", "select", "select_rows"]

Ranks = Sequence[Iterable[int] | None] | RankLists | None


class Selection(NamedTuple):
    """What one step of a beam search keeps: four arrays of shape (batch, k), best first.

    Attributes
    ----------
    scores : ndarray, dtype float32
        Running scores; -inf in slots that could not be filled.
    rows : ndarray, dtype int64
        The beam of the step before that each slot extends; -1 in empty slots.
    codes : ndarray, dtype int64
        The code it was extended by; -1 in empty slots.
    nodes : ndarray, dtype int64
        The node it has reached; -1 in empty slots.
    """

    scores: FloatArray
    rows: IntArray
    codes: IntArray
    nodes: IntArray

    @classmethod
    def empty(cls, batch: int, k: int) -> "Selection":
        """Return arrays without values."""
        shape = batch, k
        return cls(np.empty(shape, FLOAT32), np.empty(shape, INT64), np.empty(shape, INT64), np.empty(shape, INT64))


def select(
    levels: Levels,
    alive: Alive,
    log_probs: Any,
    start: Any,
    nodes: Any,
    *,
    depth: int,
    size: int,
    k: int,
    exclude: Ranks,
    candidates: Ranks,
) -> Selection:
    """Check the arguments of `Trie.select` and run its kernel; `depth` is checked, `size` is the level's codebook's."""
    log_probs, start = plain(log_probs, FLOAT32), plain(start, FLOAT32)
    nodes = plain_int64(nodes, name="nodes", remedy=FROM_WALK)
    if log_probs.ndim != 3 or log_probs.shape[2] != size or nodes.shape != log_probs.shape[:2]:
        raise InvalidValueError(
            f"log_probs and nodes disagree: expected (batch, beams, {size}) and (batch, beams), got "
            f"{log_probs.shape} and {nodes.shape}. log_probs holds the {size} codes of level {depth} alone."
        )
    if start.shape != nodes.shape:
        raise InvalidValueError(
            f"start has a wrong shape: expected {nodes.shape}, got {start.shape}. Give one score per beam."
        )
    k = check_count(k, "k")
    batch, n_items = len(log_probs), levels.n_items
    excluded = RankLists.check(exclude, batch=batch, n_items=n_items, name="exclude")
    allowed = RankLists.check(candidates, batch=batch, n_items=n_items, name="candidates")
    out = Selection.empty(batch, k)
    # The kernel looks at each node anyway: a pass of NumPy's over them takes a tenth of a small step's time.
    are_nodes = kernel("select")(
        *levels, *alive, depth, log_probs, start, nodes, excluded.ranks, excluded.starts, *allowed[:3], *out
    )
    if not are_nodes:
        raise InvalidValueError(
            f"nodes out of range: expected -1 .. {levels.n_nodes(depth) - 1} at depth {depth}, got {nodes.min()} .. "
            f"{nodes.max()}. {FROM_WALK}"
        )
    return out


def select_rows(
    tries: "Sequence[Trie]",
    log_probs: Any,
    start: Any,
    nodes: Any,
    *,
    depth: int,
    k: int,
    exclude: Ranks = None,
    candidates: Ranks = None,
) -> Selection:
    """Do one step of a beam search where each request has a trie of its own, as search and recommendation have.

    Parameters
    ----------
    tries : sequence of batch Trie
        Requests that name the same object are done together.
    log_probs : array-like of shape (batch, beams, width), dtype float32
        `width` is at least the codebook size of level `depth` of each trie; what exceeds it is not looked at.
    start, nodes, depth, k, exclude, candidates
        As in `Trie.select`; nodes and ranks are those of each request's own trie.

    Returns
    -------
    Selection
        As the requests would give one by one.
    """
    log_probs, start = np.asarray(log_probs, np.float32), np.asarray(start, np.float32)
    nodes = plain_int64(nodes, name="nodes", remedy=FROM_WALK)
    batch = len(tries)
    for name, array, ndim in (("log_probs", log_probs, 3), ("start", start, 2), ("nodes", nodes, 2)):
        if array.ndim != ndim or len(array) != batch:
            raise InvalidValueError(
                f"{name} has a wrong shape: expected {ndim} axes, {batch} requests, got {array.shape}. "
                "Give one row per trie."
            )
    for name, lists in (("exclude", exclude), ("candidates", candidates)):
        check_n_lists(lists, batch=batch, name=name)
    groups: dict[int, list[int]] = {}
    for row, trie in enumerate(tries):
        groups.setdefault(id(trie), []).append(row)
    if len(groups) == 1:  # nothing to take apart
        size = tries[0].codebook_sizes[depth] if 0 <= depth < tries[0].n_levels else log_probs.shape[2]
        return tries[0].select(
            log_probs[:, :, :size], start, nodes, depth=depth, k=k, exclude=exclude, candidates=candidates
        )
    out = Selection.empty(batch, k)
    for rows in groups.values():
        trie = tries[rows[0]]
        size = trie.codebook_sizes[depth] if 0 <= depth < trie.n_levels else log_probs.shape[2]
        part = trie.select(
            log_probs[rows, :, :size],
            start[rows],
            nodes[rows],
            depth=depth,
            k=k,
            exclude=_lists_of(exclude, rows),
            candidates=_lists_of(candidates, rows),
        )
        for whole, piece in zip(out, part, strict=True):
            whole[rows] = piece
    return out


def _lists_of(lists: Ranks, rows: list[int]) -> Ranks:
    """Return the lists of some requests."""
    if lists is None:
        return None
    return lists.take(np.array(rows)) if isinstance(lists, RankLists) else [lists[row] for row in rows]
