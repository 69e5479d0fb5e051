"""The pictures of a run: loss curve, and metric bars of the model beside the floors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .dataset import Task

__all__ = ["loss_curve", "metric_bars"]

# Okabe and Ito's palette, which colour-blind readers can tell apart; the floors are grey, so lightness tells them, too.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#B0B0B0"
MARKERS = ("o", "s")


def loss_curve(
    steps: Sequence[int],
    losses: Sequence[float],
    *,
    path: Path,
    validation: Mapping[Task, tuple[Sequence[int], Sequence[float]]] | None = None,
) -> None:
    """Draw the training loss over steps and, below, the validation NDCG@10 of each task; write a PNG.

    Parameters
    ----------
    steps, losses : sequence of equal length
        Loss in nats per token.
    path : Path
    validation : mapping, optional
        Task -> (steps, NDCG@10 values).
    """
    # A Figure without pyplot: nothing global is left behind, and it draws without a display.
    figure = Figure(figsize=(7, 6 if validation else 3.6), layout="constrained", dpi=150)
    panels = figure.subplots(2 if validation else 1, 1, sharex=True, squeeze=False)[:, 0]
    width = max(1, len(losses) // 50)
    if width > 1:
        mean = np.convolve(losses, np.full(width, 1 / width), mode="valid")
        panels[0].plot(steps, losses, color=BLUE, alpha=0.35, linewidth=0.8, label="as logged")
        panels[0].plot(steps[width - 1 :], mean, color=BLUE, linewidth=2, label=f"mean of {width}")
        panels[0].legend(frameon=False)
    else:
        panels[0].plot(steps, losses, color=BLUE, linewidth=2, marker="o", markersize=4)
    panels[0].set(ylabel="training loss (nats per token)", title="Training loss")
    if validation:
        for (task, (at, values)), marker, color in zip(validation.items(), MARKERS, (BLUE, ORANGE), strict=False):
            panels[1].plot(at, values, marker=marker, markersize=5, color=color, label=task)
        panels[1].set(ylabel="NDCG@10", title="Validation, full catalogue")
        panels[1].set_ylim(bottom=0)
        panels[1].legend(frameon=False)
    panels[-1].set_xlabel("training step")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    for panel in panels:
        _plain(panel)
        panel.grid(axis="y", alpha=0.3)
    figure.savefig(path)


def metric_bars(
    model: Mapping[Task, Mapping[str, float]],
    floors: Mapping[Task, Mapping[str, Mapping[str, float]]],
    *,
    path: Path,
    name: str = "ours",
    shown: Sequence[str] = ("NDCG@10", "HR@10"),
) -> None:
    """Draw one row of panels per task and one column per metric, model first, floors below; write a PNG.

    Parameters are those of `table.format_table`; `shown` names the metrics to draw.
    """
    rows = {task: {name: metrics, **floors.get(task, {})} for task, metrics in model.items()}
    heights = [len(bars) + 1 for bars in rows.values()]
    figure = Figure(figsize=(9.5, 0.42 * sum(heights) + 0.8), layout="constrained", dpi=150)
    panels = figure.subplots(len(rows), len(shown), squeeze=False, height_ratios=heights, sharey="row")
    for line, (task, bars) in zip(panels, rows.items(), strict=True):
        for panel, metric in zip(line, shown, strict=True):
            values = [metrics[metric] for metrics in bars.values()]
            places = np.arange(len(values))
            drawn = panel.barh(places, values, color=[BLUE] + [GREY] * (len(values) - 1), height=0.7)
            panel.bar_label(drawn, fmt="%.4f", padding=3, fontsize=9)
            panel.set_xlim(0, max(*values, 1e-6) * 1.22)  # room for the numbers behind the bars
            panel.set_yticks(places, list(bars))
            panel.set_title(f"{task}: {metric}", fontsize=10)
            panel.xaxis.set_major_locator(MaxNLocator(4))
            _plain(panel)
            panel.tick_params(axis="y", length=0)
        line[0].invert_yaxis()  # shared along the row: the model comes first
    figure.savefig(path)


def _plain(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
