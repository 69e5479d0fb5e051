"""What belongs to the requests of a search: settings, tries, vocabularies, candidates and exclusions, checked."""

import math
import numbers
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch

from semid._arrays import IntArray
from semid._checks import check_count, check_ranks
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.inputs import check_flag
from semid.trie import Trie
from semid.trie.selection import MOST_BEAMS, RankLists
from semid.vocabulary import SidVocabulary

__all__ = [
    "Part",
    "Settings",
    "as_lists",
    "check_pair",
    "check_settings",
    "check_tries",
    "check_vocab",
    "route",
    "warn_of_end",
]


# Below this, the logits of a model, divided by the temperature, may overflow float32.
LEAST_TEMPERATURE = 1e-30

NORMALIZERS = ("full", "window", "allowed")


class Settings(NamedTuple):
    """Checked arguments of `generate` that do not depend on the requests."""

    num_beams: int
    num_return: int
    normalize: str
    outside: bool
    do_sample: bool
    temperature: float


def check_settings(
    *,
    num_beams: int,
    num_return: int | None = None,
    normalize: str = "full",
    outside: bool = False,
    do_sample: bool = False,
    temperature: float = 1.0,
) -> Settings:
    """Return settings as a search takes them, or raise an error that says which one is wrong."""
    num_beams = check_count(num_beams, "num_beams", remedy="Search at least one beam.")
    check_count(num_beams, "num_beams", most=MOST_BEAMS)
    num_return = (
        num_beams
        if num_return is None
        else check_count(
            num_return, "num_return", most=num_beams, remedy="num_beams limits how many items are returned."
        )
    )
    if not isinstance(normalize, str) or normalize not in NORMALIZERS:
        raise InvalidValueError(f"normalize is unknown: expected one of {NORMALIZERS}, got {normalize!r}. Choose one.")
    outside, do_sample = check_flag(outside, "outside"), check_flag(do_sample, "do_sample")
    return Settings(num_beams, num_return, normalize, outside, do_sample, _check_temperature(temperature))


def _check_temperature(temperature: Any) -> float:
    if not isinstance(temperature, numbers.Real) or isinstance(temperature, bool):
        raise InvalidTypeError(
            f"temperature has a wrong type: expected a number, got {temperature!r}. 1.0 leaves the model as it is."
        )
    try:
        value = float(temperature)
    except OverflowError:  # of a long integer
        value = math.inf
    if not 0 < value < math.inf:
        raise InvalidValueError(
            f"temperature is out of range: expected a finite number above 0, got {value}. "
            "For the best items instead of draws, leave do_sample at False."
        )
    if value < LEAST_TEMPERATURE:
        raise InvalidValueError(
            f"temperature is too small: expected {LEAST_TEMPERATURE} or more, got {value}: logits divided by it are no "
            "numbers of float32. For the best items instead of draws, leave do_sample at False."
        )
    return value


def check_pair(trie: Trie, vocab: SidVocabulary) -> None:
    """Raise unless every code of the trie has a token in the vocabulary, and both are of one catalogue.

    Without a mark, a trie or vocabulary fits any catalogue: a trie from `Trie.from_codes`, a vocabulary that was never
    tied to one.

    Parameters
    ----------
    trie : Trie
    vocab : SidVocabulary
        That knows its token ids.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If one of them is something else, their shapes differ, or their marks do: catalogue, view or generation.
    """
    if not isinstance(trie, Trie):
        raise InvalidTypeError(
            f"trie has a wrong type: expected one semid.Trie, got {type(trie).__name__}. Build it with Trie.from_codes."
        )
    check_vocab(vocab)
    sizes = vocab.codebook_sizes
    if trie.n_levels != vocab.n_levels or any(a > b for a, b in zip(trie.codebook_sizes, sizes, strict=True)):
        raise InvalidValueError(
            f"trie and vocabulary have different shapes: expected codebooks of at most {sizes} codes, got "
            f"{trie.codebook_sizes}. Make both from the same codes."
        )
    if trie.fingerprint is not None and vocab.catalogue is not None and trie.fingerprint != vocab.catalogue:
        raise InvalidValueError(
            f"trie and vocabulary are of different catalogues: expected a trie of {_mark(vocab.catalogue)}, generation "
            f"{vocab.generation}, got one of {_mark(trie.fingerprint)}, generation {trie.generation}. Take sids.trie() "
            "of the generation that the vocabulary is tied to; or, where sids.check_pair(model=model) accepts the "
            "model, tie the vocabulary to the new one: vocab.tied_to(sids)."
        )


def check_vocab(vocab: SidVocabulary) -> None:
    """Raise unless `vocab` is a vocabulary that knows its token ids."""
    if not isinstance(vocab, SidVocabulary):
        raise InvalidTypeError(
            f"vocab has a wrong type: expected a semid.SidVocabulary, got {type(vocab).__name__}. Make one first."
        )
    _ = vocab.level_tokens  # raises when it has not been extended


# By vocabulary, the tokens and the end that were compared last, so that a search compares what it has not met alone.
_compared: WeakKeyDictionary[SidVocabulary, tuple[Any, Any]] = WeakKeyDictionary()


def warn_of_end(model: Any, vocab: SidVocabulary) -> None:
    """Warn, once, if a token that ends the rows of ``model.generate`` is that of a code before the last level.

    A search of our own ends where the levels do, and so it is right all the same; ``model.generate`` takes a beam with
    this token out of the search before its ID is complete, whatever a logits processor says.
    """
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if ends is None or len(vocab.level_tokens) == 1:
        return
    # Copied, since a list may be changed in place.
    ends = (ends,) if isinstance(ends, int) else tuple(np.atleast_1d(np.asarray(ends)).tolist())
    tokens, compared = _compared.get(vocab, (None, None))
    if tokens is vocab.level_tokens and compared == ends:
        return
    _compared[vocab] = vocab.level_tokens, ends
    for level, own in enumerate(vocab.level_tokens[:-1]):
        found = np.intersect1d(ends, own).tolist()
        if found:
            warnings.warn(
                f"an end token of the model is the token of a code: expected none of level {level}, got {found}. This "
                "search finds all items; model.generate would end such IDs early and lose them, with a "
                "SidLogitsProcessor too. Set model.generation_config.eos_token_id to another token.",
                stacklevel=5,  # the caller of `generate`
            )
            return


def _mark(fingerprint: str) -> str:
    """Return a fingerprint short enough to read, with the view that follows it."""
    content, colon, view = fingerprint.partition(":")
    return content[:12] + colon + view


RankSets = Sequence[Iterable[int] | None]


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
    tries: list[Trie], vocabs: list[SidVocabulary], *, candidates: RankSets | None, exclude: RankSets | None
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
        for name, lists in (("candidates", wanted), ("exclude", unwanted)):
            if lists and lists[row] is not None:
                check_ranks(lists[row], n_items=trie.n_ranks, name=name)
        groups.setdefault((id(trie), id(vocab)), []).append(row)
    parts = []
    for rows in groups.values():
        trie = tries[rows[0]]
        allowed, gone = (
            trie.rank_lists([lists[row] for row in rows]) if lists else None for lists in (wanted, unwanted)
        )
        parts.append(Part(np.asarray(rows, np.int64), trie, vocabs[rows[0]], allowed, gone))
    return parts


def check_lists(lists: RankSets | None, batch: int, name: str) -> list[IntArray | None] | None:
    """Return one array of ranks per request, less its -1 entries; None for a request that gives None."""
    arrays = None if lists is None else as_lists(lists, batch, name)
    return arrays and [None if ranks is None else ranks[ranks != -1] for ranks in arrays]


def as_lists(lists: RankSets, batch: int, name: str) -> list[IntArray | None]:
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
        ranks = ranks.detach().cpu()
        ranks = (ranks.float() if ranks.is_floating_point() else ranks).numpy()
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
    return array.astype(np.int64) if array.size else np.empty(array.shape, np.int64)
