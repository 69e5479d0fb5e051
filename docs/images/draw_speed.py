"""Draw docs/images/speed.png from the committed benchmarks: ``python docs/images/draw_speed.py``."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

from semid.plots.style import PALETTE

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

# Name of the benchmark -> what the reader should know of it.
SEARCHES = {
    "test_bench_generate[t5-1-50-64]": "T5-small shape\n33k tokens, prompt 64",
    "test_bench_generate[qwen2-1-50-64]": "Qwen2, 4 layers\n152k tokens, prompt 64",
    "test_bench_generate[qwen2-1-50-512]": "Qwen2, 4 layers\n152k tokens, prompt 512",
    "test_bench_generate[qwen2-0.5b-1-50-64]": "Qwen2-0.5B shape\n152k tokens, prompt 64",
}
WAYS = {
    "semid, full, products by MKL": "exact scores, PyTorch's own matrix products (MKL)",
    "semid, full": "exact scores, the default (oneDNN products)",
    "semid, window": 'normalize="window": scores over the codes alone',
}
STEPS = {f"{depth}-1600 rows": f"code {depth + 1} of 4" for depth in (1, 2, 3)}
RIVALS = {
    ("test_bench_select", "padded gather (torch)"): "STATIC's step, our PyTorch code, eager",
    ("test_bench_select_compiled", "padded gather (torch, compiled)"): "the same under torch.compile",
}

Bars = dict[str, dict[str, float]]


def seconds_of(report: str) -> dict[str, dict[str, list[float]]]:
    """Return benchmark -> library -> CPU seconds of each round, from a result file."""
    content: dict[str, Any] = json.loads((RESULTS / report).read_text(encoding="utf-8"))
    return {entry["name"]: entry["extra_info"].get("seconds", {}) for entry in content["benchmarks"]}


def times_as_fast(seconds: dict[str, list[float]], *, ours: str, rival: str) -> float:
    """Return the rival's median time over ours."""
    return statistics.median(seconds[rival]) / statistics.median(seconds[ours])


def search_bars() -> Bars:
    """Return way -> model -> how many times as fast as Hugging Face's beam search without a constraint."""
    measured = seconds_of("bench_generate.json")
    return {
        label: {
            model: times_as_fast(measured[name], ours=way, rival="HF, unconstrained")
            for name, model in SEARCHES.items()
        }
        for way, label in WAYS.items()
    }


def step_bars() -> Bars:
    """Return rival -> step -> how many times as fast `Trie.select` is."""
    measured = seconds_of("bench_trie.json")
    return {
        label: {
            step: times_as_fast(measured[f"{benchmark}[{key}]"], ours="semid", rival=rival)
            for key, step in STEPS.items()
        }
        for (benchmark, rival), label in RIVALS.items()
    }


def draw_bars(ax: Axes, bars: Bars, *, title: str, colors: list[str]) -> None:
    """Draw a group of horizontal bars per row, and the figure at the end of each bar."""
    rows = list(next(iter(bars.values())))
    height = 0.8 / len(bars)
    for number, (label, values) in enumerate(bars.items()):
        places = [row + (number - (len(bars) - 1) / 2) * height for row in range(len(rows))]
        drawn = ax.barh(places, list(values.values()), 0.9 * height, color=colors[number], label=label)
        ax.bar_label(drawn, [f"{value:.3g}x" for value in values.values()], fontsize=8, padding=2)
    ax.axvline(1, color="black", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xlim(1, 1.6 * max(max(values.values()) for values in bars.values()))
    ax.set_xticks([])
    ax.xaxis.set_tick_params(which="minor", bottom=False, labelbottom=False)
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    ax.invert_yaxis()
    ax.spines[["right", "top", "bottom"]].set_visible(False)
    ax.set_title(title, loc="left", fontsize=9)
    ax.legend(frameon=False, fontsize=7.5, loc="upper left", bbox_to_anchor=(-0.02, -0.01))


def draw(path: str | Path) -> None:
    """Draw the picture into a PNG file."""
    figure, (searches, steps) = plt.subplots(
        1, 2, figsize=(9.2, 3.9), layout="constrained", gridspec_kw=dict(width_ratios=[1.25, 1])
    )
    draw_bars(
        searches, search_bars(), colors=[PALETTE[4], PALETTE[0], PALETTE[2]],
        title="A request, 50 beams: times as fast as Hugging Face's\nbeam search without a constraint (log scale)",
    )  # fmt: skip
    draw_bars(
        steps, step_bars(), colors=[PALETTE[0], PALETTE[1]],
        title="A step of 1,600 beams over a million items:\ntimes as fast as the step of STATIC (log scale)",
    )  # fmt: skip
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("speed.png"))
