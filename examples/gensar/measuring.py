"""What a model is worth on the full catalogue: metrics, intervals, the floors beside it, and the table of all."""

from collections.abc import Mapping
from typing import Any

from .baselines import measure_floors
from .dataset import TEST, Dataset, Task
from .evaluation import Evaluator, TaskResult
from .identifiers import VIEW_OF
from .metrics import CUTOFFS, SHOWN, format_table, interval_rows
from .presets import Recipe
from .record import Stopwatch
from .rivals import Rivals
from .sampled import intervals_of

__all__ = ["evaluate_tasks", "rank_catalogue", "tasks_of"]


def tasks_of(recipe: Recipe) -> tuple[Task, ...]:
    """Return the tasks that are evaluated."""
    return tuple(task for task in VIEW_OF if recipe.tasks in ("both", task))


def evaluate_tasks(
    evaluator: Evaluator, model: Any, *, split: int, n_users: int | None = None
) -> dict[Task, TaskResult]:
    """Rank the catalogue for the targets of a split; a task without targets has no result."""
    found = {
        task: evaluator.evaluate(model, task=task, split=split, n_users=n_users) for task in tasks_of(evaluator.recipe)
    }
    return {task: result for task, result in found.items() if result is not None}


def rank_catalogue(
    dataset: Dataset, evaluator: Evaluator, model: Any, watch: Stopwatch, *, name: str, rivals: Rivals | None
) -> dict[str, Any]:
    """Evaluate on the full catalogue; returns metrics, intervals, floors, table and validity, and prints them."""
    with watch("evaluate"):
        answers = evaluate_tasks(evaluator, model, split=TEST)
        spread = intervals_of(answers, cutoffs=CUTOFFS)
        whole = None
        if "search" in answers and evaluator.recipe.search_within == "query":
            whole = evaluator.evaluate(model, task="search", split=TEST, within="catalogue")
    with watch("floors"):
        floors = measure_floors(dataset, split=TEST)
        if rivals is not None:
            more = rivals.measure()
            floors = {task: {**rows, **more[task]} for task, rows in floors.items()}
    metrics = {task: answer.metrics for task, answer in answers.items()}
    below = interval_rows(spread)
    if whole is not None:
        below["search"]["  of the whole catalogue"] = whole.metrics
    table = format_table(metrics, floors, name=name, below=below, shown=SHOWN)
    print(f"\n{table}\n\n{_validity(answers)}")
    return {
        "metrics": metrics,
        "intervals": spread,
        "floors": floors,
        **({} if whole is None else {"whole_catalogue": {"search": whole.metrics}}),
        "table": table,
        "validity": {task: _counts(answer) for task, answer in answers.items()},
    }


def _counts(answer: TaskResult) -> dict[str, int]:
    return {"generated": answer.n_generated, "real": answer.n_real, "repeated": answer.n_repeated}


def _validity(answers: Mapping[Task, TaskResult]) -> str:
    return "\n".join(
        f"{task}: {answer.n_real} of {answer.n_generated} generated rows are real items, "
        f"{answer.n_repeated} repeat an item of their list"
        if answer.n_generated
        else f"{task}: the items of each query were scored, nothing was generated"
        for task, answer in answers.items()
    )
