"""The paper's candidates: for each test request its item and 99 others, which are ranked instead of the catalogue.

GenSAR (arXiv 2504.05730, appendix A.3, and the authors' notebook): for recommendation the 99 are drawn by popularity,
out of the list of interactions, but for what the user has; for search they are the best BM25 hits of the query (k1 0.9
and b 0.4, Pyserini's), filled up by popularity where the query has too few. Some of those are relevant, too.

The numbers are far above those of the full catalogue and say little about them: never compare across the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import numpy.typing as npt

from semid.errors import FormatError

from .baselines import Bm25, top_items
from .dataset import TEST, Dataset, IntArray, Task, targets

__all__ = ["CANDIDATE_FILES", "N_CANDIDATES", "Candidates", "candidates_for", "draw_candidates", "read_candidates"]

N_CANDIDATES = 100
# GenSAR asks BM25 for 109 hits, drops the target, and keeps 99.
N_HITS = 109
CANDIDATE_FILES: dict[Task, str] = {"recommendation": "cand_rec_test.npy", "search": "cand_search_test.npy"}
# Fixed, and apart from the seed of a run: runs with other seeds must rank the same candidates.
CANDIDATE_SEED = 2024


@final
@dataclass(frozen=True)
class Candidates:
    """What the test requests of each task rank.

    Attributes
    ----------
    items : mapping of task to ndarray of shape (n_requests, n_candidates), dtype int64
        In the order of `targets`; the target first, -1 where a catalogue has too few items.
    note : mapping of task to str
        Where they come from.
    """

    items: Mapping[Task, IntArray]
    note: Mapping[Task, str]


def candidates_for(dataset: Dataset, folder: Path | None) -> Candidates:
    """Return the candidates that lie in the data folder, and draw them by the same rules where it has none.

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
        Of the users that `dataset` has; the file may hold more of them behind.

    Raises
    ------
    FormatError
        If it is no array of item indices, or a row does not begin with the target of its request, or repeats an item.
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
