"""The candidate protocol of a run: both ways to rank the candidates, their intervals, and the floors on the same."""

from collections.abc import Mapping, Sequence
from typing import Any

from .baselines import measure_floors
from .candidates import Candidates
from .dataset import Dataset, Task
from .evaluation import CANDIDATE_BEAMS, Evaluator, TaskResult
from .metrics import CUTOFFS, format_table, interval_rows, intervals
from .rivals import Rivals

__all__ = ["intervals_of", "rank_candidates"]

EXACT, BEAMS = "exact scores", f"{CANDIDATE_BEAMS} beams"


def intervals_of(
    answers: Mapping[Task, TaskResult], *, cutoffs: Sequence[int]
) -> dict[Task, dict[str, tuple[float, float]]]:
    """Return task -> metric -> (low, high)."""
    return {task: dict(intervals(found.ranks, found.users, cutoffs=cutoffs)) for task, found in answers.items()}


def rank_candidates(
    dataset: Dataset,
    evaluator: Evaluator,
    model: Any,
    candidates: Candidates,
    *,
    tasks: Sequence[Task],
    name: str,
    rivals: Rivals | None = None,
) -> dict[str, Any]:
    """Evaluate the model on the candidates of the test targets.

    Returns
    -------
    results : dict
        ``metrics`` and ``intervals`` of the exact scores, ``beams`` (the metrics of the beams), ``floors``, ``notes``
        and a ``table``.
    """
    ways = {EXACT: evaluator.score_candidates, BEAMS: evaluator.generate_candidates}
    found: dict[str, dict[Task, TaskResult]] = {way: {} for way in ways}
    for way, rank in ways.items():
        for task in tasks:
            answer = rank(model, task=task, candidates=candidates)
            if answer is not None:
                found[way][task] = answer
    metrics = {task: answer.metrics for task, answer in found[EXACT].items()}
    beams = {task: answer.metrics for task, answer in found[BEAMS].items()}
    spread = intervals_of(found[EXACT], cutoffs=CUTOFFS)
    floors = measure_floors(dataset, cutoffs=CUTOFFS, candidates=candidates.items)
    if rivals is not None:
        more = rivals.measure(cutoffs=CUTOFFS, candidates=candidates.items)
        floors = {task: {**rows, **more[task]} for task, rows in floors.items()}
    below = {task: {**rows, f"{name}, {BEAMS}": beams[task]} for task, rows in interval_rows(spread).items()}
    table = format_table(metrics, floors, name=f"{name}, {EXACT}", below=below)
    note = "; ".join(f"{task}: {candidates.note[task]}" for task in metrics)
    return {
        "metrics": metrics,
        "intervals": spread,
        "beams": beams,
        "floors": floors,
        "notes": candidates.note,
        "table": f"1 + 99 candidates ({note})\n{table}",
    }
