"""More baselines on the same targets: Markov chain, matrix factorisation, SASRec, dense retrieval; --baselines all.

ALS is implicit's (Hu, Koren and Volinsky 2008). It is fitted on the events of the simple baselines; size and
weight are chosen on the validation targets. The factors of a request are solved for its own history, so nothing of the
target's own second is known, as for every other row. Dense retrieval ranks items by the cosine of their text with the
query; the sentence model is that of the semantic view, and is not tuned. SASRec is our own, see `sasrec`. The Markov
chain shows how much of what SASRec finds is the order of two items, which item CF ignores.
"""

import importlib
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, final

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from semid.errors import OptionalDependencyError

from ..baselines import Baselines, FloatArray, Scores, known_items, measure_floors, popularity, rank_requests
from ..dataset import TEST, VALID, Dataset, History, IntArray, Task, targets
from ..metrics import CUTOFFS, metrics, ranks_of
from ..sasrec import SasRec, fit_sasrec
from ..views import embed_texts

__all__ = ["Als", "Dense", "Markov", "Rivals", "check_implicit", "floors_and_rivals", "tune_als"]

FACTORS = (16, 32, 64, 128, 256)
ALPHAS = (1.0, 10.0, 40.0)
REGULARIZATION = 0.05
N_ITERATIONS = 15
# Of the Markov chain.
MAX_DISTANCE, N_LATEST, LATEST_DECAY = 3, 5, 0.5


def check_implicit() -> Any:
    """Return the class of implicit.

    Raises
    ------
    OptionalDependencyError
        If the package is not installed.
    """
    try:
        return importlib.import_module("implicit.als").AlternatingLeastSquares
    except ImportError as error:
        raise OptionalDependencyError(
            f"cannot import implicit: expected it for --baselines all, got {error}. Run pip install implicit."
        ) from error


def floors_and_rivals(dataset: Dataset, views: Mapping[str, FloatArray], *, seed: int) -> Baselines:
    """Fit all baselines; their rows come behind those of the simple ones."""
    rivals = Rivals(dataset, views["semantic"], embed_texts(dataset.query_texts), seed=seed)

    def measure(**options: Any) -> dict[Task, dict[str, dict[str, float]]]:
        more = rivals.measure(**options)
        return {task: {**rows, **more[task]} for task, rows in measure_floors(dataset, **options).items()}

    return Baselines(measure, {"als": rivals.als_options, "sasrec": rivals.sasrec_training})


@final
class Markov:
    """Which item comes after which: ``n(i, j) = sum 1 / d`` over all places where j follows i at distance d <= 3.

    An item's score is the sum over the last five events of the history of ``0.5^age n(event, item)``. On the validation
    targets of amazon_beauty_small: NDCG@10 .1221, with d = 1 alone .1140.
    """

    def __init__(self, known: Sequence[IntArray], *, n_items: int) -> None:
        self.follows = sp.csr_matrix((n_items, n_items))
        for distance in range(1, MAX_DISTANCE + 1):
            earlier = np.concatenate([items[:-distance] for items in known])
            later = np.concatenate([items[distance:] for items in known])
            weights = np.full(len(earlier), 1 / distance)
            self.follows += sp.csr_matrix((weights, (earlier, later)), shape=self.follows.shape)

    def scores(self, history: IntArray) -> FloatArray:
        """Return the scores of all items, shape (n_items,), dtype float64, for a history of items, the latest last."""
        recent = history[-N_LATEST:]
        total: FloatArray = self.follows[recent].T @ LATEST_DECAY ** np.arange(len(recent))[::-1]
        return total


@final
class Als:
    """Alternating least squares on the matrix of users and items, an interaction weighing `alpha`, all else 1."""

    def __init__(
        self, known: Sequence[IntArray], *, n_items: int, factors: int, alpha: float, seed: int, n_threads: int = 1
    ) -> None:
        self.n_items = n_items
        self.model = check_implicit()(
            factors=factors, regularization=REGULARIZATION, alpha=alpha, iterations=N_ITERATIONS, random_state=seed,
            num_threads=n_threads,
        )  # fmt: skip
        users = np.repeat(np.arange(len(known)), [len(items) for items in known])
        taken = self._matrix(users, np.concatenate(known), n_users=len(known))
        # implicit has its own threads, and warns if the BLAS has several.
        with threadpool_limits(1, "blas"):
            self.model.fit(taken, show_progress=False)

    def scores(self, history: IntArray) -> FloatArray:
        """Return the scores of all items, shape (n_items,), dtype float32, for a history of items."""
        row = self._matrix(np.zeros(len(history), dtype=np.int64), history, n_users=1)
        user = self.model.recalculate_user(0, row).reshape(-1)
        total: FloatArray = self.model.item_factors @ user
        return total

    def _matrix(self, users: IntArray, items: IntArray, *, n_users: int) -> Any:
        taken = sp.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=(n_users, self.n_items))
        taken.data[:] = 1  # an item taken twice counts once
        return taken


@final
class Dense:
    """Cosine of query and item text; both embeddings have unit length."""

    def __init__(self, items: FloatArray, queries: FloatArray) -> None:
        self.items, self.queries = items, queries

    def scores(self, query: int) -> FloatArray:
        """Return the scores of all items, shape (n_items,), dtype float32."""
        total: FloatArray = self.items @ self.queries[query]
        return total


def tune_als(dataset: Dataset, *, seed: int) -> dict[str, Any]:
    """Return factors and alpha with the best NDCG@10 on the validation targets of recommendation.

    A data set without such targets gets the first of each.
    """
    requests = targets(dataset.histories, task="recommendation", split=VALID)
    known = known_items(dataset, split=VALID)
    best: dict[str, Any] = {"factors": FACTORS[0], "alpha": ALPHAS[0]}
    best_score = -1.0
    for factors, alpha in product(FACTORS, ALPHAS) if len(requests) else ():
        als = Als(known, n_items=dataset.n_items, factors=factors, alpha=alpha, seed=seed)
        found = _measure(
            dataset, requests, _by_history(als), popularity(known, n_items=dataset.n_items), cutoffs=CUTOFFS, name="ALS"
        )
        if found["NDCG@10"] > best_score:
            best, best_score = {"factors": factors, "alpha": alpha}, found["NDCG@10"]
    return best


@final
class Rivals:
    """The baselines of a data set, fitted once and measured under any protocol.

    Parameters
    ----------
    dataset : Dataset
    items : ndarray of shape (n_items, dim), dtype float32
        Embeddings of the item texts, of unit length.
    queries : ndarray of shape (n_queries, dim), dtype float32
        The same of the query texts.
    seed : int
        Of ALS and SASRec.
    """

    def __init__(self, dataset: Dataset, items: FloatArray, queries: FloatArray, *, seed: int) -> None:
        self.dataset = dataset
        self.als_options = tune_als(dataset, seed=seed)
        known = known_items(dataset, split=TEST)
        self.popular = popularity(known, n_items=dataset.n_items)
        als = Als(known, n_items=dataset.n_items, seed=seed, **self.als_options)
        sasrec, validations = fit_sasrec(dataset, seed=seed)
        self.sasrec_training = {"epochs": len(validations), "best_epoch": int(np.argmax(validations or [0])) + 1}
        dense = Dense(items, queries)

        def by_text(history: History, event: int) -> FloatArray:
            return dense.scores(int(history.query[event]))

        self.rows: list[tuple[Task, str, Scores]] = [
            ("recommendation", "Markov chain", _by_history(Markov(known, n_items=dataset.n_items))),
            ("recommendation", "ALS, implicit", _by_history(als)),
            ("recommendation", "SASRec", _by_history(sasrec)),
            ("search", "MiniLM, dense", by_text),
        ]

    def measure(
        self, *, cutoffs: Sequence[int] = CUTOFFS, candidates: Mapping[Task, IntArray] | None = None
    ) -> dict[Task, dict[str, dict[str, float]]]:
        """Return task -> name -> metric -> value on the test targets, as `measure_floors` does."""
        results: dict[Task, dict[str, dict[str, float]]] = {"recommendation": {}, "search": {}}
        for task, name, scores in self.rows:
            requests = targets(self.dataset.histories, task=task, split=TEST)
            if len(requests):
                own = None if candidates is None else candidates[task]
                results[task][name] = _measure(
                    self.dataset, requests, scores, self.popular, cutoffs=cutoffs, name=name, candidates=own
                )
        return results


def _by_history(model: Als | Markov | SasRec) -> Scores:
    return lambda history, event: model.scores(history.item[history.before(event)])


def _measure(
    dataset: Dataset,
    requests: IntArray,
    scores: Scores,
    ties: FloatArray,
    *,
    cutoffs: Sequence[int],
    name: str,
    candidates: IntArray | None = None,
) -> dict[str, float]:
    ranked = rank_requests(
        dataset, requests, scores, ties=ties, within_query=False, k=max(cutoffs), name=name, candidates=candidates
    )
    relevant = np.array([dataset.histories[user].item[event] for user, event in requests])
    return metrics(ranks_of(ranked, relevant), cutoffs=cutoffs)
