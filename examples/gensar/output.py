"""What a run leaves behind: a folder that is complete from the start of the training, pictures, and the result file.

- ``run.json``: what was asked for, and which data and IDs it was applied to
- ``ids/``, ``quantizer/``, ``vocabulary/VIEW/``: the semantic IDs, the codebooks they come from, their tokens
- ``checkpoint.pt``: the state of training
- ``model/``: the best model and its tokenizer
- ``pictures/``: codebook usage and prefix tree per view, loss curve, metric bars
- ``results.json``: metrics, baselines and circumstances; a run with this file is finished
"""

import hashlib
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import semid
from semid.errors import FormatError, InvalidValueError

from .dataset import Dataset, Task
from .files import write_json, write_whole
from .identifiers import VIEW_OF, Identifiers
from .language import Language
from .training import TrainingState

__all__ = [
    "BLUE",
    "GREY",
    "ORANGE",
    "RunFolder",
    "Stopwatch",
    "circumstances",
    "fingerprint",
    "item_labels",
    "loss_curve",
    "metric_bars",
    "resolution_of",
]

# Okabe and Ito's palette, which colour-blind readers can distinguish; baselines are grey, so lightness differs, too.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#B0B0B0"
MARKERS = ("o", "s")


@final
class RunFolder:
    """The folder that a run writes to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.results = path / "results.json"

    def check(self, *, resume: bool) -> None:
        """Refuse a folder that is in use; called before any work is done.

        Raises
        ------
        InvalidValueError
            If the folder is not empty, and either holds no run or `resume` is False.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InvalidValueError(f"{self.path} is a file: expected a folder for the run. Choose another --out.")
        if not self.path.exists() or not any(self.path.iterdir()):
            return
        if not (self.path / "run.json").is_file():
            raise InvalidValueError(
                f"{self.path} is in use: expected a new or empty folder, got one with other files. "
                "Choose another --out."
            )
        if not resume:
            raise InvalidValueError(
                f"{self.path} holds a run already: expected a new or empty folder. "
                "Pass --resume to go on with it, or choose another --out."
            )

    def open(self, asked: Mapping[str, Any], identifiers: Identifiers, language: Language) -> None:
        """Make the folder with everything that is known before the training, or check that it belongs to this run.

        Parameters
        ----------
        asked : mapping
            What determines the result, as JSON values; a run that is resumed must have been asked for the same.

        Raises
        ------
        InvalidValueError
            If the folder holds a run that was asked for something else.
        """
        if (self.path / "run.json").is_file():
            self.compare(asked)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}."))
        try:
            identifiers.sids.save_pretrained(room / "ids")
            identifiers.quantizer.save_pretrained(room / "quantizer")
            for view, vocab in language.vocabs.items():
                vocab.save_pretrained(room / "vocabulary" / view)
            write_json(room / "run.json", asked)
            if self.path.exists():
                self.path.rmdir()  # `check` found it empty
            room.chmod(0o755)  # mkdtemp makes it private
            room.rename(self.path)
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def compare(self, asked: Mapping[str, Any]) -> None:
        """Raise InvalidValueError if the folder's run was asked for something else than `asked`."""
        before, now = self._read("run.json"), json.loads(json.dumps(asked))
        differing = sorted(key for key in now if before.get(key) != now[key])
        if differing:
            key = differing[0]
            raise InvalidValueError(
                f"{self.path} holds another run: expected {key} = {before.get(key)!r}, got {now[key]!r} "
                f"(differing: {', '.join(differing)}). Choose another --out."
            )

    def save_model(self, model: Any, tokenizer: Any) -> None:
        """Write model and tokenizer for `from_pretrained`."""
        model.save_pretrained(self.path / "model")
        tokenizer.save_pretrained(self.path / "model")

    def save_results(self, results: Mapping[str, Any]) -> None:
        """Write results.json."""
        write_json(self.results, results)

    def read_results(self) -> dict[str, Any]:
        """Return the content of results.json."""
        return self._read("results.json")

    def draw(
        self,
        dataset: Dataset,
        identifiers: Identifiers,
        state: TrainingState,
        metrics: Mapping[Task, Mapping[str, float]],
        floors: Mapping[Task, Mapping[str, Mapping[str, float]]],
        *,
        name: str,
    ) -> None:
        """Draw all pictures; `name` is the model's name beside the baselines."""
        folder = self.path / "pictures"
        folder.mkdir(exist_ok=True)
        labels = item_labels(dataset)
        for view in identifiers.codes:
            codes, title = identifiers.codes[view], f"{dataset.name}: {view} IDs"
            usage, tree = _new_figure(), _new_figure()
            semid.plots.codebook_usage(
                codes, codebook_sizes=identifiers.resolution.codebook_sizes, ax=usage.subplots()
            ).set_title(title)
            semid.plots.prefix_tree(codes, labels=labels, ax=tree.subplots()).set_title(title)
            write_whole(folder / f"codebook_usage_{view}.png", usage.savefig)
            write_whole(folder / f"prefix_tree_{view}.png", tree.savefig)
        validation = {
            task: (
                [int(entry["step"]) for entry in state.validations if task in entry],
                [entry[task] for entry in state.validations if task in entry],
            )
            for task in VIEW_OF
        }
        steps = range(1, len(state.losses) + 1)
        write_whole(
            folder / "loss_curve.png",
            lambda path: loss_curve(steps, state.losses, path=path, validation=validation),
        )
        write_whole(folder / "metric_bars.png", lambda path: metric_bars(metrics, floors, path=path, name=name))

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FormatError(f"{path} is damaged: expected JSON, got {error}. Choose another --out.") from error
        return content


def _new_figure() -> Figure:
    # Without pyplot, which would keep the figure in memory and look for a display.
    return Figure(figsize=(9, 4), dpi=150, layout="constrained")


def item_labels(dataset: Dataset) -> list[str]:
    """Return a category per item: its first query, without the words that all queries have in common."""
    words = [text.split() for text in dataset.query_texts]
    common = set.intersection(*map(set, words)) if len(words) > 1 else set()
    labels = ["no query"] * dataset.n_items
    for query, items in reversed(list(zip(words, dataset.query_items, strict=True))):
        for item in items:
            labels[item] = " ".join(word for word in query if word not in common)
    return labels


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
    """Draw one row of panels per task and one column per metric, model first, baselines below; write a PNG.

    Parameters are those of `metrics.format_table`; `shown` names the metrics to draw.
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


@final
class Stopwatch:
    """Wall seconds of each part of the run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Announce the block and measure it."""
        print(f"{part} ..", flush=True)
        begin = time.perf_counter()
        yield
        self.seconds[part] = round(self.seconds.get(part, 0.0) + time.perf_counter() - begin, 1)


def fingerprint(dataset: Dataset) -> str:
    """Return the SHA-256 of queries and histories."""
    digest = hashlib.sha256("\n".join(dataset.query_texts).encode())
    for history in dataset.histories:
        for array in (history.item, history.query, history.time):
            digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()


def resolution_of(identifiers: Identifiers) -> dict[str, Any]:
    """Return what it cost to make the IDs unique."""
    resolution = identifiers.resolution
    return {
        "codebook_sizes": list(resolution.codebook_sizes),
        "n_moved": resolution.n_moved,
        "n_collisions_before": resolution.n_collisions_before,
        "n_collisions_after": resolution.n_collisions_after,
        "distortion_before": resolution.distortion_before,
        "distortion_after": resolution.distortion_after,
    }


def circumstances(device: torch.device) -> dict[str, Any]:
    """Return versions, machine and threads."""
    packages = ("torch", "transformers", "tokenizers", "numpy", "scikit-learn", "numba")
    return {
        "semid": semid.__version__,
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
