"""One plain table: the model beside the floors, and which floors it does not beat."""

from collections.abc import Mapping, Sequence

from .bootstrap import LEVEL
from .dataset import Task

__all__ = ["format_table", "interval_rows", "unbeaten_floors"]

Metrics = Mapping[str, float]


def format_table(
    model: Mapping[Task, Metrics],
    floors: Mapping[Task, Mapping[str, Metrics]],
    *,
    name: str = "ours",
    below: Mapping[Task, Mapping[str, Metrics]] | None = None,
    shown: Sequence[str] | None = None,
) -> str:
    """Return the table as text, without a final newline; tasks without model metrics are left out.

    Parameters
    ----------
    model : mapping
        Task -> metric -> value.
    floors : mapping
        Task -> name of the floor -> metric -> value, as `measure_floors` returns it.
    name : str
        The model's name in the table.
    below : mapping, optional
        Task -> label -> metric -> value: rows that belong to the model, such as `interval_rows`, and are not judged.
    shown : sequence of str, optional
        The metrics to show and to judge by; default: all.
    """
    below = below or {}
    if shown is not None:
        model = {task: {metric: values[metric] for metric in shown} for task, values in model.items()}
    columns = next(iter(model.values())).keys() if model else ()
    labels = [name, *(label for task in model for label in [*below.get(task, {}), *floors.get(task, {})])]
    width = max(len(label) for label in labels) + 2
    rule = "-" * (width + 10 * len(columns))
    lines = [" " * width + "".join(f"{column:>10}" for column in columns)]
    for task, metrics in model.items():
        lines += [rule, task]
        for label, values in {name: metrics, **below.get(task, {}), **floors.get(task, {})}.items():
            lines.append(f"  {label:<{width - 2}}" + "".join(f"{values[column]:10.4f}" for column in columns))
    return "\n".join([*lines, rule, *_verdict(model, floors, name=name)])


def interval_rows(
    intervals: Mapping[Task, Mapping[str, tuple[float, float]]],
) -> dict[Task, dict[str, dict[str, float]]]:
    """Return two rows for the ends of the intervals, as `format_table` takes them below the model."""
    labels = f"  {LEVEL:.0%} from", f"  {LEVEL:.0%} to"
    return {
        task: {label: {metric: ends[side] for metric, ends in found.items()} for side, label in enumerate(labels)}
        for task, found in intervals.items()
    }


def unbeaten_floors(
    model: Mapping[Task, Metrics], floors: Mapping[Task, Mapping[str, Metrics]]
) -> list[tuple[Task, str, list[str]]]:
    """Return (task, floor, metrics) for each floor that is as good as the model, or better, on at least one metric."""
    found: list[tuple[Task, str, list[str]]] = []
    for task, metrics in model.items():
        for floor, values in floors.get(task, {}).items():
            lost = [metric for metric in metrics if metrics[metric] <= values[metric]]
            if lost:
                found.append((task, floor, lost))
    return found


def _verdict(model: Mapping[Task, Metrics], floors: Mapping[Task, Mapping[str, Metrics]], *, name: str) -> list[str]:
    unbeaten = unbeaten_floors(model, floors)
    if not unbeaten:
        return [f"Every floor is beaten by {name}, on every metric."]
    lines = [f"Floors that {name} does not beat:"]
    for task, floor, lost in unbeaten:
        shares = ", ".join(f"{metric} {_share(model[task][metric], floors[task][floor][metric])}" for metric in lost)
        lines.append(f"  {task}, {floor}: {shares}")
    return lines


def _share(ours: float, floor: float) -> str:
    return f"{ours / floor:.0%} of it" if floor > 0 else "both 0"
