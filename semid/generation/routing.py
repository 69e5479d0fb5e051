"""Which trie each request of a batch searches, and which of its items it may return."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from semid._arrays import IntArray
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.pairing import check_pair
from semid.trie import Trie
from semid.trie.rank_lists import RankLists
from semid.vocabulary import SidVocabulary

__all__ = ["Part", "as_lists", "as_ranks", "check_lists", "check_ranks", "check_tries", "route"]

Ranks = Sequence[Iterable[int] | None]


class Part(NamedTuple):
    """The requests that share a trie and a vocabulary.

    Attributes
    ----------
    rows : ndarray of shape (n_requests,), dtype int64
        Their rows in the batch.
    trie : Trie
    vocab : SidVocabulary
    candidates, excluded : RankLists or None
        Ranks in `trie`, one list per request: sorted here, once for all steps of a search.
    """

    rows: IntArray
    trie: Trie
    vocab: SidVocabulary
    candidates: RankLists | None
    excluded: RankLists | None


def check_tries(
    trie: Trie | Sequence[Trie], vocab: SidVocabulary | Sequence[SidVocabulary], batch: int
) -> tuple[list[Trie], list[SidVocabulary]]:
    """Return a trie and a vocabulary for each row, or raise an error that says what does not fit."""
    tries, vocabs = _per_row(trie, Trie, "trie", batch), _per_row(vocab, SidVocabulary, "vocab", batch)
    for pair in dict.fromkeys(zip(map(id, tries), map(id, vocabs), strict=True)):
        row = next(row for row in range(batch) if (id(tries[row]), id(vocabs[row])) == pair)
        check_pair(tries[row], vocabs[row])
        if tries[row].n_levels != tries[0].n_levels:
            raise InvalidValueError(
                f"tries have different depths: expected {tries[0].n_levels} levels in all rows, got "
                f"{tries[row].n_levels} in row {row}. Search IDs of different lengths in separate calls."
            )
    return tries, vocabs


def route(
    tries: list[Trie], vocabs: list[SidVocabulary], *, candidates: Ranks | None, exclude: Ranks | None
) -> list[Part]:
    """Group the rows of a batch by what they search.

    Parameters
    ----------
    tries, vocabs : list of batch
        From `check_tries`.
    candidates : sequence of batch sequences of int, optional
        Ranks that a row may return, -1 for none; None in place of a sequence allows all items.
    exclude : sequence of batch sequences of int, optional
        Ranks that a row must not return.
    """
    wanted = check_lists(candidates, len(tries), "candidates")
    unwanted = check_lists(exclude, len(tries), "exclude")
    groups: dict[tuple[int, int], list[int]] = {}
    for row, (trie, vocab) in enumerate(zip(tries, vocabs, strict=True)):
        check_ranks(wanted[row] if wanted else None, trie, "candidates")
        check_ranks(unwanted[row] if unwanted else None, trie, "exclude")
        groups.setdefault((id(trie), id(vocab)), []).append(row)
    parts = []
    for rows in groups.values():
        trie = tries[rows[0]]
        allowed, gone = (
            trie.rank_lists([lists[row] for row in rows]) if lists else None for lists in (wanted, unwanted)
        )
        parts.append(Part(np.asarray(rows, np.int64), trie, vocabs[rows[0]], allowed, gone))
    return parts


def check_lists(lists: Ranks | None, batch: int, name: str) -> list[IntArray | None] | None:
    """Return one array of ranks per request, less its -1 entries; None for a request that gives None."""
    arrays = None if lists is None else as_lists(lists, batch, name)
    return arrays and [None if ranks is None else ranks[ranks != -1] for ranks in arrays]


def as_lists(lists: Ranks, batch: int, name: str) -> list[IntArray | None]:
    """Return one array of ranks per request, its -1 entries included."""
    if not isinstance(lists, Iterable) or getattr(lists, "ndim", 1) == 0:
        raise InvalidTypeError(
            f"{name} has a wrong type: expected {batch} sequences of ranks, got {lists!r}. "
            "Give one sequence per request, such as [[1, 2]] for one request."
        )
    arrays = [None if ranks is None else as_ranks(ranks, name) for ranks in lists]
    if len(arrays) != batch or any(ranks is not None and ranks.ndim != 1 for ranks in arrays):
        shapes = [None if ranks is None else ranks.shape for ranks in arrays[:3]]
        raise InvalidValueError(
            f"{name} is wrong: expected {batch} sequences of ranks, got {len(arrays)} of shapes {shapes}. "
            "Give one sequence per request, such as [[1, 2]] for one request."
        )
    return arrays


def _per_row(value: Any, kind: type, name: str, batch: int) -> list[Any]:
    if isinstance(value, kind):
        return [value] * batch
    if not isinstance(value, list | tuple) or not value:
        raise InvalidTypeError(
            f"{name} has a wrong type: expected one semid.{kind.__name__} or a list of them, got "
            f"{'an empty ' if isinstance(value, list | tuple) else ''}{type(value).__name__}. "
            "Give one for all rows or one per row."
        )
    if len(value) != batch:
        raise InvalidValueError(
            f"{name} has a wrong length: expected {batch}, one per row, got {len(value)}. "
            f"Give one {kind.__name__} for all rows or one per row."
        )
    for row, one in enumerate(value):
        if not isinstance(one, kind):
            raise InvalidTypeError(
                f"{name} has a wrong type: expected a semid.{kind.__name__} in row {row}, got {type(one).__name__}. "
                "Give one for all rows or one per row."
            )
    return list(value)


def as_ranks(ranks: Any, name: str) -> IntArray:
    """Return the ranks of one request as an array of int64, or raise an error."""
    if ranks is None:
        raise InvalidTypeError(
            f"{name} has a wrong type: expected a sequence of ranks for each request, got None in place of one. "
            "For all items, pass trie.ranks()."
        )
    if isinstance(ranks, torch.Tensor):
        ranks = ranks.cpu().numpy()
    elif isinstance(ranks, Iterable) and not isinstance(ranks, np.ndarray):
        ranks = list(ranks)  # a set, too
    try:
        array = np.asarray(ranks)
    except ValueError as error:
        raise InvalidValueError(
            f"{name} is wrong: expected one sequence of ranks per request, got sequences within one. Flatten it."
        ) from error
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InvalidTypeError(
            f"{name} has a wrong dtype: expected integers, got {array.dtype}. Pass ranks, not item ids."
        )
    return array.astype(np.int64)


def check_ranks(ranks: IntArray | None, trie: Trie, name: str) -> None:
    """Raise unless all ranks are those of items."""
    if ranks is not None and ranks.size and (ranks.min() < 0 or ranks.max() >= trie.n_ranks):
        raise InvalidValueError(
            f"{name} holds a rank out of range: expected 0 .. {trie.n_ranks - 1}, got {ranks.min()} .. {ranks.max()}. "
            "Take ranks from Trie.rank or SemanticIds.ranks_of."
        )
