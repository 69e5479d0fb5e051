"""The simple baselines beside every model, "floors" in result files: rankings without learning.

They rank for the same targets, with the same items left out.

Counts come from the events before each user's test target (for validation: before the validation target). The scores of
a request use `History.before`, so nothing of the target's own second. The items of `seen` are left out of every
ranking, as they are for the model.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, final

import bm25s
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from tqdm import tqdm

from .dataset import TEST, Dataset, History, IntArray, Task, seen, targets, words
from .metrics import CUTOFFS, metrics, ranks_of

__all__ = [
    "Baselines",
    "Bm25",
    "ItemCF",
    "floors_alone",
    "known_items",
    "measure_floors",
    "popularity",
    "rank_requests",
    "top_items",
]

N_RECENT = 20
DECAY = 0.8

FloatArray = npt.NDArray[np.floating[Any]]
Scores = Callable[[History, int], FloatArray]


class Baselines(NamedTuple):
    """What stands beside the model in the table.

    Attributes
    ----------
    measure : callable
        Takes the arguments of `measure_floors` that follow the data set, and returns the same kind of rows.
    told : mapping
        What the result file says of their fitting.
    """

    measure: Callable[..., dict[Task, dict[str, dict[str, float]]]]
    told: Mapping[str, Any]


def floors_alone(dataset: Dataset, views: Mapping[str, FloatArray], *, seed: int) -> Baselines:
    """Return the baselines of the main job; they use the data set only."""
    return Baselines(partial(measure_floors, dataset), {})


def known_items(dataset: Dataset, *, split: int) -> list[IntArray]:
    """Return, per user, the items of the events before the first target of `split`."""
    return [history.item[history.before_split(split)] for history in dataset.histories]


def popularity(known: Sequence[IntArray], *, n_items: int) -> FloatArray:
    """Return the number of users that have each item, shape (n_items,), dtype float64."""
    return np.bincount(np.concatenate([np.unique(items) for items in known]), minlength=n_items).astype(np.float64)


@final
class ItemCF:
    """Item-item collaborative filtering: cosine of the items' user sets, summed over the recent history.

    ``sim(i, j) = |U_i and U_j| / sqrt(|U_i| |U_j|)``, 0 for i = j; an item's score is the sum over the last 20 events
    of the history of ``0.8^age sim``, where the latest event has age 0.
    """

    def __init__(self, known: Sequence[IntArray], *, n_items: int) -> None:
        users = np.repeat(np.arange(len(known)), [len(items) for items in known])
        taken = sp.csr_matrix((np.ones(len(users)), (users, np.concatenate(known))), shape=(len(known), n_items))
        taken.data[:] = 1  # an item taken twice counts once
        together = (taken.T @ taken).tocsr()
        scale = sp.diags(1 / np.sqrt(np.maximum(together.diagonal(), 1)))
        together.setdiag(0)
        together.eliminate_zeros()
        self.similarity = (scale @ together @ scale).tocsr()

    def scores(self, history: IntArray) -> FloatArray:
        """Return the scores of all items, shape (n_items,), for a history of items, the latest last."""
        recent = history[-N_RECENT:]
        ages = np.arange(len(recent))[::-1]
        total: FloatArray = self.similarity[recent].T @ DECAY**ages
        return total


@final
class Bm25:
    """BM25 over item texts by Lucene's formula, by the bm25s package; k1 and b are Lucene's defaults.

    Words are lower-case; the final s of a word of four letters or more is dropped, so that "creams" finds "cream".
    """

    def __init__(self, texts: Sequence[str], *, k1: float = 1.2, b: float = 0.75) -> None:
        self.index = bm25s.BM25(k1=k1, b=b, method="lucene")
        self.index.index([_terms(text) for text in texts], show_progress=False)

    def scores(self, query: str) -> FloatArray:
        """Return the scores of all items, shape (n_items,), dtype float32."""
        terms = [term for term in _terms(query) if term in self.index.vocab_dict]
        if not terms:
            return np.zeros(self.index.scores["num_docs"], dtype=np.float32)
        scores: FloatArray = self.index.get_scores(terms)
        return scores


def _terms(text: str) -> list[str]:
    return [word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words(text)]


def top_items(scores: FloatArray, ties: FloatArray, allowed: npt.NDArray[np.bool_], *, k: int) -> IntArray:
    """Return the k best allowed items, best first; equal scores by larger `ties`, then by smaller index.

    Parameters
    ----------
    scores, ties : ndarray of shape (n_items,), floating dtype
    allowed : ndarray of shape (n_items,), dtype bool

    Returns
    -------
    items : ndarray of shape (k,), dtype int64
        Padded with -1 where fewer than k items are allowed.
    """
    items = np.flatnonzero(allowed)
    if len(items) > k:
        kth_best = np.partition(scores[items], -k)[-k]
        items = items[scores[items] >= kth_best]
    best = items[np.lexsort((items, -ties[items], -scores[items]))][:k]
    return np.pad(best, (0, k - len(best)), constant_values=-1)


def rank_requests(
    dataset: Dataset,
    requests: IntArray,
    scores: Scores,
    *,
    ties: FloatArray,
    within_query: bool,
    k: int,
    name: str,
    candidates: IntArray | None = None,
) -> IntArray:
    """Return the k best items per (user, event) request, shape (n_requests, k), dtype int64, padded with -1.

    With `candidates`, of shape (n_requests, n_candidates) and padded with -1, exactly these are ranked, also those that
    the user has.
    """
    ranked = np.empty((len(requests), k), dtype=np.int64)
    for row, (user, event) in enumerate(tqdm(requests, desc=f"baseline: {name}", leave=False, disable=None)):
        history = dataset.histories[user]
        if within_query:
            allowed = np.zeros(dataset.n_items, dtype=bool)
            allowed[dataset.query_items[history.query[event]]] = True
        else:
            allowed = np.ones(dataset.n_items, dtype=bool)
        if candidates is None:
            allowed[seen(history, event)] = False
        else:
            allowed &= np.isin(np.arange(dataset.n_items), candidates[row])
        ranked[row] = top_items(scores(history, event), ties, allowed, k=k)
    return ranked


def measure_floors(
    dataset: Dataset,
    *,
    split: int = TEST,
    cutoffs: Sequence[int] = CUTOFFS,
    candidates: Mapping[Task, IntArray] | None = None,
) -> dict[Task, dict[str, dict[str, float]]]:
    """Return the metrics of every simple baseline: task -> name -> metric -> value.

    A task without targets in this split has no rows. With `candidates`, the items of each request of each task, these
    are ranked instead of the catalogue; see `rank_requests`.
    """
    known = known_items(dataset, split=split)
    popular = popularity(known, n_items=dataset.n_items)
    cf = ItemCF(known, n_items=dataset.n_items)
    bm25 = Bm25(dataset.item_texts)
    by_query: list[FloatArray] = [bm25.scores(text) for text in dataset.query_texts]

    def by_popularity(history: History, event: int) -> FloatArray:
        return popular

    def by_cf(history: History, event: int) -> FloatArray:
        return cf.scores(history.item[history.before(event)])

    def by_bm25(history: History, event: int) -> FloatArray:
        return by_query[int(history.query[event])]

    floors: list[tuple[Task, str, Scores, bool]] = [
        ("recommendation", "popularity", by_popularity, False),
        ("recommendation", "item-item CF", by_cf, False),
        ("search", "BM25", by_bm25, False),
        ("search", "items of the query, by popularity", by_popularity, True),
        ("search", "items of the query, by item CF", by_cf, True),
    ]
    results: dict[Task, dict[str, dict[str, float]]] = {"recommendation": {}, "search": {}}
    for task, name, scores, within_query in floors:
        requests = targets(dataset.histories, task=task, split=split)
        if len(requests):
            ranked = rank_requests(
                dataset, requests, scores, ties=popular, within_query=within_query, k=max(cutoffs), name=name,
                candidates=None if candidates is None else candidates[task],
            )  # fmt: skip
            relevant = np.array([dataset.histories[user].item[event] for user, event in requests])
            results[task][name] = metrics(ranks_of(ranked, relevant), cutoffs=cutoffs)
    return results
