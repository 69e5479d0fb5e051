"""The paper's protocol: each test request ranks its item and 99 others; --evaluation candidates, or both.

GenSAR (arXiv 2504.05730, appendix A.3, and the authors' notebook): for recommendation the 99 are drawn by popularity
from the list of interactions, without what the user has; for search they are the best BM25 hits of the query (k1 0.9
and b 0.4, as in Pyserini), filled up by popularity if the query has too few. Some of those are relevant, too.

The paper ranks them by 30 beams that are restricted to them. A beam that is dropped early takes its candidates along.
`semid.score_items` scores every candidate, so that none is lost. Both are measured.

The numbers are far above those of the full catalogue and say little about it: never compare across the two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from semid.errors import FormatError

from ..baselines import Baselines, Bm25, top_items
from ..dataset import TEST, Dataset, IntArray, Task, targets
from ..evaluation import LIST_LENGTH, Answers, Evaluator, TaskResult, intervals_of, tasks_of
from ..metrics import format_table, interval_rows
from ..output import Stopwatch
from ..run import rank_catalogue

__all__ = [
    "CANDIDATE_FILES",
    "N_CANDIDATES",
    "Candidates",
    "both_protocols",
    "candidates_alone",
    "candidates_for",
    "draw_candidates",
    "generate_candidates",
    "read_candidates",
    "score_candidates",
]

N_CANDIDATES = 100
# GenSAR asks BM25 for 109 hits, drops the target, and keeps 99.
N_HITS = 109
CANDIDATE_FILES: dict[Task, str] = {"recommendation": "cand_rec_test.npy", "search": "cand_search_test.npy"}
# Fixed, and independent of the seed of a run: runs with other seeds rank the same candidates.
CANDIDATE_SEED = 2024
N_BEAMS = 30
EXACT, BEAMS = "exact scores", f"{N_BEAMS} beams"


@final
@dataclass(frozen=True)
class Candidates:
    """What the test requests of each task rank.

    Attributes
    ----------
    items : mapping of task to ndarray of shape (n_requests, n_candidates), dtype int64
        In the order of `targets`; the target first, -1 where a catalogue has too few items.
    note : mapping of task to str
        Their origin.
    """

    items: Mapping[Task, IntArray]
    note: Mapping[Task, str]


def candidates_alone(dataset: Dataset, folder: Path | None) -> Callable[..., dict[str, Any]]:
    """Return the protocol of the candidates; those that lie in the data folder are read now."""
    candidates = candidates_for(dataset, folder)

    def measure(
        evaluator: Evaluator, model: Any, baselines: Baselines, watch: Stopwatch, *, name: str
    ) -> dict[str, Any]:
        ranked = rank_candidates(candidates, evaluator, model, baselines, watch, name=name)
        shown = {key: ranked[key] for key in ("metrics", "floors")}
        return {**shown, "candidates": ranked, "table": ranked["table"]}

    return measure


def both_protocols(dataset: Dataset, folder: Path | None) -> Callable[..., dict[str, Any]]:
    """Return the protocol of the catalogue followed by that of the candidates."""
    candidates = candidates_for(dataset, folder)

    def measure(
        evaluator: Evaluator, model: Any, baselines: Baselines, watch: Stopwatch, *, name: str
    ) -> dict[str, Any]:
        found = rank_catalogue(evaluator, model, baselines, watch, name=name)
        ranked = rank_candidates(candidates, evaluator, model, baselines, watch, name=name)
        return {**found, "candidates": ranked, "table": f"{found['table']}\n\n{ranked['table']}"}

    return measure


def rank_candidates(
    candidates: Candidates, evaluator: Evaluator, model: Any, baselines: Baselines, watch: Stopwatch, *, name: str
) -> dict[str, Any]:
    """Rank the candidates of the test targets in both ways, and print the table.

    Returns
    -------
    ranked : dict
        ``metrics`` and ``intervals`` of the exact scores, ``beams`` (the metrics of the beams), ``floors``, ``notes``
        and a ``table``.
    """
    with watch("rank candidates"):
        found: dict[str, dict[Task, TaskResult]] = {}
        for way, rank in ((EXACT, score_candidates), (BEAMS, generate_candidates)):
            answers = {task: rank(evaluator, model, task, candidates) for task in tasks_of(evaluator.recipe)}
            found[way] = {task: answer for task, answer in answers.items() if answer is not None}
        metrics = {task: answer.metrics for task, answer in found[EXACT].items()}
        beams = {task: answer.metrics for task, answer in found[BEAMS].items()}
        spread = intervals_of(found[EXACT])
        floors = baselines.measure(candidates=candidates.items)
    below = {task: {**rows, f"{name}, {BEAMS}": beams[task]} for task, rows in interval_rows(spread).items()}
    table = format_table(metrics, floors, name=f"{name}, {EXACT}", below=below)
    note = "; ".join(f"{task}: {candidates.note[task]}" for task in metrics)
    table = f"1 + 99 candidates ({note})\n{table}"
    print(f"\n{table}")
    return {
        "metrics": metrics,
        "intervals": spread,
        "beams": beams,
        "floors": floors,
        "notes": candidates.note,
        "table": table,
    }


def score_candidates(evaluator: Evaluator, model: Any, task: Task, candidates: Candidates) -> TaskResult | None:
    """Rank the candidates of the test targets by the exact probability of their IDs; None when there are none."""
    requests = targets(evaluator.dataset.histories, task=task, split=TEST)
    answers = Answers(requests)
    for rows, inputs in evaluator.batches(task, requests):
        items = candidates.items[task][rows]
        scores = evaluator.score(model, inputs, task, [own[own >= 0] for own in items])
        items = items[:, : scores.shape[1]]
        ranks = np.where(items >= 0, evaluator.rank_of_item[task][items], -1)
        # Equal scores go by the rank in the trie: the target comes first in its row and must not win because of that.
        order = np.lexsort((ranks, -scores))[:, :LIST_LENGTH]
        answers.ranked[rows, : order.shape[1]] = np.take_along_axis(items, order, axis=1)
    return answers.result(evaluator.dataset)


def generate_candidates(evaluator: Evaluator, model: Any, task: Task, candidates: Candidates) -> TaskResult | None:
    """Rank the candidates of the test targets by the paper's 30 beams; None when there are none."""
    requests = targets(evaluator.dataset.histories, task=task, split=TEST)
    answers = Answers(requests)
    for rows, inputs in evaluator.batches(task, requests):
        wanted = [own[own >= 0] for own in candidates.items[task][rows]]
        out = evaluator.generate(model, inputs, task, num_beams=N_BEAMS, candidates=wanted)
        answers.read(rows, out, evaluator.item_of_codes[task])
    return answers.result(evaluator.dataset)


def candidates_for(dataset: Dataset, folder: Path | None) -> Candidates:
    """Return the candidates of the data folder; a task that it has none for gets drawn ones.

    Raises
    ------
    FormatError
        If a file does not fit the data.
    """
    items: dict[Task, IntArray] = {}
    note: dict[Task, str] = {}
    for task, name in CANDIDATE_FILES.items():
        if folder is not None and (folder / name).is_file():
            items[task], note[task] = read_candidates(folder / name, dataset, task=task), f"read from {name}"
        else:
            items[task] = draw_candidates(dataset, task=task)
            note[task] = f"drawn by the rules of the paper, seed {CANDIDATE_SEED}"
    return Candidates(items, note)


def read_candidates(path: Path, dataset: Dataset, *, task: Task) -> IntArray:
    """Read a .npy file with one row of item indices for each test request, the target first.

    Returns
    -------
    items : ndarray of shape (n_requests, n_candidates), dtype int64
        For the users of `dataset`; the file may hold further users behind them.

    Raises
    ------
    FormatError
        If it is not an array of item indices, or a row does not begin with the target of its request or repeats an
        item.
    """
    try:
        read: npt.NDArray[np.integer] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FormatError(
            f"{path} cannot be read: expected a .npy array, got {error}. Write the file again."
        ) from error
    requests = targets(dataset.histories, task=task, split=TEST)
    wanted = np.array([dataset.histories[user].item[event] for user, event in requests], dtype=np.int64)
    n_requests = len(requests)
    if read.ndim != 2 or read.shape[0] < n_requests or read.shape[1] < 1 or read.dtype.kind not in "iu":
        raise FormatError(
            f"{path} holds no candidates: expected integers of shape ({n_requests}, n_candidates), got {read.dtype} of "
            f"shape {read.shape}. Write one row for each test request."
        )
    items = read[:n_requests].astype(np.int64)
    if n_requests and not (0 <= items.min() and items.max() < dataset.n_items):
        raise FormatError(
            f"{path} names unknown items: expected indices below {dataset.n_items}, got {items.min()} to "
            f"{items.max()}. Number the items as items.jsonl lists them."
        )
    for row, (own, target) in enumerate(zip(items, wanted, strict=True)):
        if own[0] != target or len(np.unique(own)) < len(own):
            raise FormatError(
                f"{path}, row {row} is not of this request: expected distinct items, the target {target} first, got "
                f"{own[:3].tolist()} .. with {len(own) - len(np.unique(own))} repeated. "
                "Write the rows in the order of the test rows."
            )
    return items


def draw_candidates(dataset: Dataset, *, task: Task, n_candidates: int = N_CANDIDATES) -> IntArray:
    """Draw the candidates of the test requests by the rules of the paper; the same ones every time.

    Returns
    -------
    items : ndarray of shape (n_requests, n_candidates), dtype int64
        The target first, -1 where the catalogue has too few items.
    """
    requests = targets(dataset.histories, task=task, split=TEST)
    counts = np.bincount(
        np.concatenate([history.item for history in dataset.histories]), minlength=dataset.n_items
    ).astype(np.float64)
    hits: dict[int, IntArray] = {}
    if task == "search":
        bm25 = Bm25(dataset.item_texts, k1=0.9, b=0.4)
        hits = {query: _hits(bm25, dataset, query) for query in np.unique([_query(dataset, pair) for pair in requests])}
    items = np.full((len(requests), n_candidates), -1, dtype=np.int64)
    for row, (user, event) in enumerate(requests):
        history = dataset.histories[user]
        target = int(history.item[event])
        found: IntArray = np.array([target])
        if task == "search":
            listed = hits[_query(dataset, (user, event))]
            found = np.append(found, listed[listed != target][: n_candidates - 1])
            blocked = found
        else:
            blocked = np.append(history.item[: event + 1], target)
        # A generator of its own for each request: its noise depends on no other request.
        rng = np.random.default_rng([CANDIDATE_SEED, user, event])
        found = np.append(found, draw_by_popularity(counts, blocked, rng, n=n_candidates - len(found)))
        items[row, : len(found)] = found
    return items


def draw_by_popularity(
    counts: npt.NDArray[np.float64], blocked: IntArray, rng: np.random.Generator, *, n: int
) -> IntArray:
    """Draw up to n distinct items, one after the other, each with a probability proportional to its count.

    Sorting by ``log(count) + Gumbel noise`` is the same as drawing interactions one by one and passing over the items
    that are blocked or drawn already (Yellott 1977).
    """
    with np.errstate(divide="ignore"):  # log(0): an item without interactions is never drawn
        keys = np.log(counts) + rng.gumbel(size=len(counts))
    keys[blocked] = -np.inf
    best = np.argsort(-keys, kind="stable")[:n]
    return best[np.isfinite(keys[best])]


def _query(dataset: Dataset, pair: tuple[int, int] | IntArray) -> int:
    return int(dataset.histories[pair[0]].query[pair[1]])


def _hits(bm25: Bm25, dataset: Dataset, query: int) -> IntArray:
    scores = bm25.scores(dataset.query_texts[query])
    best = top_items(scores, np.zeros(len(scores)), scores > 0, k=N_HITS)
    return best[best >= 0]
