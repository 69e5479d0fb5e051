"""What an embedding of the items finds without a language model: as it is, and as the centroids of the IDs made of it.

    cd examples && python -m gensar.lab.retrieval --data FOLDER

Search ranks items by their product with the query; recommendation by their product with the sum of the last 20 items
of the history, each weighing 0.8^age, as for item CF.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import semid
from semid.errors import SemidError

from ..baselines import DECAY, N_RECENT, known_items, popularity, rank_requests
from ..dataset import TEST, Dataset, History, Task, targets
from ..identifiers import joined, shape_of_ids
from ..loaders import load_dataset
from ..metrics import metrics, ranks_of
from ..presets import recipe_for
from ..views import collaborative_embeddings, embed_texts, sequential_items, side_by_side
from .biencoder import fit_biencoder

__all__ = ["find_alone", "main"]

FloatArray = npt.NDArray[np.floating[Any]]


def find_alone(
    dataset: Dataset, items: FloatArray, queries: FloatArray | None = None, *, split: int = TEST
) -> dict[Task, dict[str, float]]:
    """Return HR and NDCG at 5 and 10 of each task, on the full catalogue without what the user has.

    Parameters
    ----------
    dataset : Dataset
    items : ndarray of shape (n_items, dim), floating dtype
    queries : ndarray of shape (n_queries, dim), floating dtype, optional
        In the space of the items; None: search is left out.
    split : int
        `VALID` or `TEST`.
    """

    def by_history(history: History, event: int) -> FloatArray:
        recent = history.item[history.before(event)][-N_RECENT:]
        weights = DECAY ** np.arange(len(recent))[::-1]
        scores: FloatArray = items @ (weights @ items[recent])
        return scores

    ways: dict[Task, Callable[[History, int], FloatArray]] = {"recommendation": by_history}
    if queries is not None:
        by_query = queries @ items.T
        ways["search"] = lambda history, event: by_query[history.query[event]]
    popular = popularity(known_items(dataset, split=split), n_items=dataset.n_items)
    found: dict[Task, dict[str, float]] = {}
    for task, scores in ways.items():
        requests = targets(dataset.histories, task=task, split=split)
        if len(requests):
            ranked = rank_requests(
                dataset, requests, scores, ties=popular, within_query=False, k=10, name=f"{task} by embedding"
            )
            relevant = np.array([dataset.histories[user].item[event] for user, event in requests])
            found[task] = metrics(ranks_of(ranked, relevant))
    return found


def _as_ids(items: FloatArray, *, seed: int) -> FloatArray:
    """Return the items as the sums of the centroids of their unique IDs, of the shape that the small preset has."""
    recipe = recipe_for("small", "causal")
    n_levels, size = shape_of_ids(len(items), recipe)
    quantizer = semid.ResidualKMeans(n_levels, size, seed=seed).fit(items)
    decoded: FloatArray = quantizer.decode(semid.resolve(quantizer, items).codes)
    return decoded


def _table(rows: Mapping[str, Mapping[Task, Mapping[str, float]]]) -> str:
    columns: list[tuple[Task, str]] = [
        (task, name) for task in ("recommendation", "search") for name in ("HR@10", "NDCG@10")
    ]
    lines = [f"{'':34}" + "".join(f"{task[:6]} {name:>9}" for task, name in columns)]
    for label, found in rows.items():
        values = [f"{found[task][name]:16.4f}" if task in found else f"{'-':>16}" for task, name in columns]
        lines.append(f"{label:34}" + "".join(values))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 0 when it went through, 1 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="as for gensar_end_to_end.py")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    try:
        dataset = load_dataset(asked.data)
        texts, queries = embed_texts(dataset.item_texts), embed_texts(dataset.query_texts)
        collaborative = collaborative_embeddings(dataset.histories, n_items=dataset.n_items, seed=asked.seed)
        sequential = sequential_items(dataset, seed=asked.seed).embeddings
        fused = fit_biencoder(dataset.histories, texts, collaborative, queries, seed=asked.seed)
        alone = fit_biencoder(dataset.histories, texts, collaborative[:, :0], queries, seed=asked.seed)
    except (SemidError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    spaces: dict[str, tuple[FloatArray, FloatArray | None]] = {
        "MiniLM": (texts, queries),
        "PPMI": (collaborative, None),
        "SASRec's rows": (sequential, None),
        "MiniLM and PPMI": (joined({"semantic": texts, "collaborative": collaborative}), None),
        "MiniLM, PPMI and SASRec's rows": (
            joined({"semantic": texts, "collaborative": side_by_side([collaborative, sequential])}),
            None,
        ),
        "bi-encoder on the texts alone": (alone.items, alone.queries),
        "bi-encoder": (fused.items, fused.queries),
    }
    rows = {}
    for name, (items, own_queries) in spaces.items():
        rows[name] = find_alone(dataset, items, own_queries)
        rows[f"  its IDs, {name}"[:33]] = find_alone(dataset, _as_ids(items, seed=asked.seed), own_queries)
    print(_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
