"""One step of a beam search: the best children of all beams of each request."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from semid._arrays import FloatArray, IntArray
from semid._checks import as_integers, check_count, check_ranks
from semid.errors import InvalidTypeError, InvalidValueError
from semid.kernels import kernel
from semid.trie.checks import FLOAT32, FROM_WALK, INT64, plain_floats, plain_int64
from semid.trie.levels import Alive, Levels

__all__ = ["RankLists", "Selection", "check_n_lists", "check_step", "select"]


class RankLists(NamedTuple):
    """One sorted list of ranks per request, end to end: checked once, used at every step.

    Attributes
    ----------
    ranks : ndarray of shape (n_ranks,), dtype int64
    starts : ndarray of shape (batch + 1,), dtype int64
        Request r has ``ranks[starts[r] : starts[r + 1]]``.
    given : ndarray of shape (batch,), dtype uint8
        1 for a request that has a list, 0 for one that has None.
    n_items : int
        Number of items of the trie that the ranks belong to.

    Examples
    --------
    >>> lists = RankLists.of([[4, 1], None], n_items=5)
    >>> lists.ranks, lists.starts, lists.given
    (array([1, 4]), array([0, 2, 2]), array([1, 0], dtype=uint8))
    """

    ranks: IntArray
    starts: IntArray
    given: npt.NDArray[np.uint8]
    n_items: int

    @classmethod
    def of(cls, lists: Sequence[Iterable[int] | None], *, n_items: int, name: str = "exclude") -> Self:
        """Check, sort and join lists of ranks.

        Parameters
        ----------
        lists : sequence of batch iterables of int, or None
            In any order, with or without repetitions.
        n_items : int
        name : str
            What messages call `lists`.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If a rank is out of range or not an integer, or the lists are nested one level too deep.
        """
        check_n_lists(lists, name=name)
        arrays = [_ranks(ranks, name, n_items) for ranks in lists]
        starts = np.concatenate([[0], np.cumsum([len(ranks) for ranks in arrays], dtype=np.int64)])
        joined = np.concatenate([np.empty(0, np.int64), *arrays])
        check_ranks(joined, n_items=n_items, name=name)
        rises = joined[1:] > joined[:-1]
        rises[starts[(starts > 0) & (starts < len(joined))] - 1] = True  # where one list ends
        if not rises.all():
            arrays = [np.unique(ranks) for ranks in arrays]
            starts = np.concatenate([[0], np.cumsum([len(ranks) for ranks in arrays], dtype=np.int64)])
            joined = np.concatenate([np.empty(0, np.int64), *arrays])
        return cls(joined, starts, np.array([ranks is not None for ranks in lists], np.uint8), n_items)

    @classmethod
    def check(cls, lists: Any, *, n_items: int, name: str) -> "RankLists":
        """Return lists as RankLists, or raise an error if they are not of a trie of `n_items` items."""
        if not isinstance(lists, RankLists):
            return cls.of(lists, n_items=n_items, name=name)
        if lists.n_items != n_items:
            raise InvalidValueError(
                f"{name} belongs to another trie: expected one of {n_items} items, got {lists.n_items}. "
                "Make it again with Trie.rank_lists."
            )
        return lists

    def take(self, rows: IntArray) -> "RankLists":
        """Return the lists of some requests."""
        lists = [self.ranks[self.starts[row] : self.starts[row + 1]] for row in rows]
        starts = np.concatenate([[0], np.cumsum([len(ranks) for ranks in lists], dtype=np.int64)])
        joined = np.concatenate([np.empty(0, np.int64), *lists])
        return RankLists(joined, starts, self.given[rows], self.n_items)


def check_n_lists(lists: Any, *, name: str, batch: int | None = None) -> None:
    """Raise unless `lists` holds one list per request: `batch` of them where it is given."""
    if not hasattr(lists, "__len__") or isinstance(lists, str | bytes) or getattr(lists, "ndim", 1) == 0:
        raise InvalidTypeError(
            f"{name} has a wrong type: expected one list of ranks per request, got {type(lists).__name__}. "
            "Write [[4, 1], [2]]."
        )
    n_lists = len(getattr(lists, "given", lists))  # RankLists, or the RankTensors of a torch mirror
    if batch is not None and n_lists != batch:
        raise InvalidValueError(
            f"{name} has a wrong length: expected {batch} lists of ranks, got {n_lists}. Give one list per request."
        )


@functools.lru_cache(maxsize=64)  # the same batch comes at every step
def _no_lists(batch: int, n_items: int) -> RankLists:
    lists = RankLists(np.empty(0, np.int64), np.zeros(batch + 1, np.int64), np.zeros(batch, np.uint8), n_items)
    for array in lists[:3]:
        array.setflags(write=False)
    return lists


def _ranks(ranks: Iterable[int] | None, name: str, n_items: int) -> IntArray:
    """Return the ranks of one request as int64; they are in range unless they were int64 before."""
    if ranks is None:
        return np.empty(0, np.int64)
    if not isinstance(ranks, Iterable) or getattr(ranks, "ndim", 1) == 0:
        raise InvalidTypeError(
            f"{name} holds something else: expected one list of ranks per request, got {ranks!r} for one. "
            "Write [[4, 1], [2]]."
        )
    given = ranks if hasattr(ranks, "__array__") or isinstance(ranks, list | tuple) else list(ranks)
    array = as_integers(given, name, remedy="Pass ranks, not item ids.")
    if array.ndim != 1:
        raise InvalidValueError(
            f"{name} holds something else: expected one list of ranks per request, got ranks of shape {array.shape} "
            "for one. Write [[4, 1], [2]]."
        )
    return array if array.dtype == np.int64 else check_ranks(array, n_items=n_items, name=name)


Ranks = Sequence[Iterable[int] | None] | RankLists | None


def check_step(log_probs: Sequence[int], start: Sequence[int], nodes: Sequence[int], *, size: int, depth: int) -> None:
    """Raise unless the shapes of one step's arrays or tensors fit each other and the `size` codes of a level."""
    if len(log_probs) != 3 or log_probs[2] != size or nodes != log_probs[:2]:
        raise InvalidValueError(
            f"log_probs and nodes disagree: expected (batch, beams, {size}) and (batch, beams), got "
            f"{tuple(log_probs)} and {tuple(nodes)}. log_probs holds the {size} codes of level {depth} alone."
        )
    if start != nodes:
        raise InvalidValueError(
            f"start has a wrong shape: expected {tuple(nodes)}, got {tuple(start)}. Give one score per beam."
        )


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


# A step keeps no more beams: four arrays of them are written.
MOST_BEAMS = 1 << 24


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
    log_probs, start = plain_floats(log_probs, name="log_probs"), plain_floats(start, name="start")
    nodes = plain_int64(nodes, name="nodes", remedy=FROM_WALK)
    check_step(log_probs.shape, start.shape, nodes.shape, size=size, depth=depth)
    if type(k) is not int or not 1 <= k <= MOST_BEAMS:  # a call less in most steps
        k = check_count(k, "k", most=MOST_BEAMS)
    batch, n_items = len(log_probs), levels.n_items
    excluded = allowed = _no_lists(batch, n_items)
    if exclude is not None:
        check_n_lists(exclude, batch=batch, name="exclude")
        excluded = RankLists.check(exclude, n_items=n_items, name="exclude")
    if candidates is not None:
        check_n_lists(candidates, batch=batch, name="candidates")
        allowed = RankLists.check(candidates, n_items=n_items, name="candidates")
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
