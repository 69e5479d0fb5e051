"""One plain table: the model beside the floors, and which floors it does not beat."""

from collections.abc import Mapping

from .history import Task

__all__ = ["format_table", "unbeaten_floors"]

Metrics = Mapping[str, float]


def format_table(
    model: Mapping[Task, Metrics], floors: Mapping[Task, Mapping[str, Metrics]], *, name: str = "ours"
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
    """
    columns = next(iter(model.values())).keys() if model else ()
    labels = [name, *(floor for task in model for floor in floors.get(task, {}))]
    width = max(len(label) for label in labels) + 2
    rule = "-" * (width + 10 * len(columns))
    lines = [" " * width + "".join(f"{column:>10}" for column in columns)]
    for task, metrics in model.items():
        lines += [rule, task]
        for label, values in {name: metrics, **floors.get(task, {})}.items():
            lines.append(f"  {label:<{width - 2}}" + "".join(f"{values[column]:10.4f}" for column in columns))
    return "\n".join([*lines, rule, *_verdict(model, floors, name=name)])


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
