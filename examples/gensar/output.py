"""The folder of a run: made whole when training begins, filled as results come, and checked before a run is resumed.

- ``run.json``: what was asked for, and what it was applied to
- ``ids/``, ``quantizer/``, ``vocabulary/VIEW/``: the semantic IDs, the codebooks they come from, their tokens
- ``checkpoint.pt``: the state of training
- ``model/``: the best model and its tokenizer
- ``pictures/``: codebook usage and prefix tree per view, loss curve, metric bars
- ``results.json``: metrics, floors and circumstances; a run with this file is finished
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from matplotlib.figure import Figure

import semid
from semid.errors import FormatError, InvalidValueError

from .checkpoint import TrainingState
from .dataset import Dataset, Task
from .figures import loss_curve, metric_bars
from .files import write_json, write_whole
from .identifiers import VIEW_OF, Identifiers
from .language import Language

__all__ = ["RunFolder", "item_labels"]


@final
class RunFolder:
    """Where a run writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint.pt"
        self.results = path / "results.json"

    def check(self, *, resume: bool) -> None:
        """Refuse a folder that is in use, before any work is done.

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
        """Make the folder with everything that is known before training, or check that it belongs to this run.

        Parameters
        ----------
        asked : mapping
            What determines the result, as JSON values; the run that is resumed must have been asked for the same.

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
        """Raise InvalidValueError if the folder's run was asked for something else than what `asked` tells."""
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
        """Draw all pictures; `name` is the model's among the floors."""
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
    """Return a category per item: the first query that it belongs to, without the words that all queries have."""
    words = [text.split() for text in dataset.query_texts]
    common = set.intersection(*map(set, words)) if len(words) > 1 else set()
    labels = ["no query"] * dataset.n_items
    for query, items in reversed(list(zip(words, dataset.query_items, strict=True))):
        for item in items:
            labels[item] = " ".join(word for word in query if word not in common)
    return labels
