"""The ablation: what each choice of the method is worth, cell by cell, as far as a machine has come.

    cd examples && python -m gensar.lab.ablate --data FOLDER --preset small        # runs every cell that is missing
    cd examples && python -m gensar.lab.ablate --data FOLDER --list                # what there is, and what is missing
    cd examples && python -m gensar.lab.ablate --data FOLDER --minutes 60          # starts no cell after an hour

A cell is one run of gensar.lab.run, in a process of its own. Its result file is written when it is done, whole or not
at all, and is not made again. Ctrl-C keeps the checkpoint of the cell that it stops, and the same command continues.
The tables are written from the result files only, between two markers of the page, and show which cells were not run.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, final

import numpy as np

from semid.errors import FormatError, SemidError

from ..files import write_json, write_whole
from ..identifiers import IDENTIFIERS, POLICIES
from ..presets import NORMALIZERS, PRESETS, TASKS, recipe_for

__all__ = ["GROUPS", "Cell", "Group", "group_table", "insert_tables", "main", "read_results", "tables"]

EXAMPLES = Path(__file__).parents[2]
PAGE = EXAMPLES.parent / "docs" / "gensar-results.md"
RESULTS = Path(__file__).parents[1] / "results"
# What a result file keeps of a run; the table would only repeat the numbers.
KEPT = (
    "data", "preset", "backbone", "seed", "recipe", "metrics", "intervals", "floors", "training", "resolution",
    "parameters", "wall_seconds", "circumstances",
)  # fmt: skip
# Cells that do not set this switch have the plainer collaborative view, which needs no training of its own.
BASE = ("--collaborative", "ppmi")
COLUMNS = (("recommendation", "HR@10"), ("recommendation", "NDCG@10"), ("search", "HR@10"), ("search", "NDCG@10"))

SHORT = {"recommendation": "rec", "search": "search"}

BEAMS = (30, 50)
IDENTIFIER = recipe_for("small", "causal").identifier


@final
@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of switches; None leaves the preset's own value."""

    backbone: str | None = None
    collaborative: str | None = None
    identifier: str | None = None
    tasks: str | None = None
    training_tasks: str | None = None
    history: str | None = None
    recent: int | None = None
    policy: str | None = None
    beams: int | None = None
    normalize: str | None = None
    inputs: str | None = None
    search_within: str | None = None
    search_by: str | None = None
    label_smoothing: float | None = None

    def switches(self) -> list[str]:
        """Return the arguments for the program."""
        turned = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [w for name, value in turned if value is not None for w in (f"--{name.replace('_', '-')}", str(value))]

    def name(self, seed: int) -> str:
        """Return the name of the result file: the switches that were set, and the seed."""
        words = self.switches()
        turned = [f"{words[at][2:]}={words[at + 1]}" for at in range(0, len(words), 2)]
        return ",".join([*turned, f"seed={seed}"])


@final
@dataclass(frozen=True)
class Group:
    """One table: its key on the command line, its title, and its rows."""

    key: str
    title: str
    cells: Mapping[str, Cell]


def _or_default(value: str, default: str) -> str | None:
    # The default is left out, so that the run that all groups share is one cell.
    return None if value == default else value


GROUPS = (
    Group(
        "identifiers",
        "identifier, tasks",
        {
            f"{identifier}, {tasks}": Cell(
                identifier=_or_default(identifier, IDENTIFIER), tasks=_or_default(tasks, TASKS[0])
            )
            for identifier in (*IDENTIFIERS, "fused-biencoder")
            for tasks in TASKS
        },
    ),
    Group(
        "ours",
        "what is not the paper's",
        {
            "all of it": Cell(),
            "inputs: tokens": Cell(inputs="tokens"),
            "search by search alone": Cell(search_by="search"),
            "search in the whole catalogue": Cell(search_within="catalogue"),
            "label smoothing 0.1": Cell(label_smoothing=0.1),
        },
    ),
    Group(
        "collaborative",
        "collaborative view, identifier",
        {
            "PPMI": Cell(),
            "SASRec": Cell(collaborative="sasrec"),
            "PPMI and SASRec": Cell(collaborative="both"),
            **{
                f"PPMI and SASRec, {identifier}": Cell(collaborative="both", identifier=identifier)
                for identifier in ("rqvae", "shared-specific-kmeans", "semantic-kmeans", "collaborative-kmeans")
            },
        },
    ),
    Group(
        "history",
        "history, T5",
        {
            "strict, all that fits": Cell(backbone="t5"),
            "strict, last 5 + 5": Cell(backbone="t5", recent=5),
            "published, last 5 + 5 (leaks)": Cell(backbone="t5", history="published", recent=5),
        },
    ),
    Group(
        "training-tasks",
        "training tasks, T5",
        {"two": Cell(backbone="t5"), "six": Cell(backbone="t5", training_tasks="six")},
    ),
    Group("policy", "policy", {policy: Cell(policy=_or_default(policy, POLICIES[0])) for policy in POLICIES}),
    Group("beams", "beams", {"the preset's": Cell(), **{str(beams): Cell(beams=beams) for beams in BEAMS}}),
    Group(
        "normalizer",
        "normalizer",
        {name: Cell(normalize=_or_default(name, NORMALIZERS[0])) for name in NORMALIZERS},
    ),
)


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return name of the cell and seed -> content, for all result files of a folder.

    Raises
    ------
    FormatError
        If a file is no result file of the cell that its name tells.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            named = content["cell"]
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path} is damaged: expected the result of a cell, got {error!r}. Delete it.") from error
        if named != path.stem:
            raise FormatError(f"{path} has another cell's name: expected that of its file, got {named!r}. Delete it.")
        found[named] = content
    return found


def run_cell(cell: Cell, *, seed: int, data: Path | None, preset: str, results: Path, runs: Path) -> int:
    """Run one cell, write its result file and remove the run; returns the exit status of the run."""
    name = cell.name(seed)
    room = runs / results.name / name
    command = [sys.executable, "-m", "gensar.lab.run", "--preset", preset, "--seed", str(seed)]
    command += [] if data is None else ["--data", str(data)]
    command += [*BASE, *cell.switches(), "--out", str(room), "--resume"]
    # The module is found from any working directory, which relative paths in the arguments depend on.
    paths = os.pathsep.join([str(EXAMPLES), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    status = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode
    if status == 0:
        content = json.loads((room / "results.json").read_text(encoding="utf-8"))
        results.mkdir(parents=True, exist_ok=True)
        kept = {key: content[key] for key in KEPT}
        write_json(results / f"{name}.json", {"cell": name, "switches": [*BASE, *cell.switches()], **kept})
        shutil.rmtree(room)
    return status


def group_table(group: Group, found: Mapping[str, Mapping[str, Any]], *, seeds: Sequence[int]) -> str:
    """Return one table in Markdown: a row per cell, means over the seeds that were run, and mean interval ends."""
    head = [f"{SHORT[task]} {name}" for task, name in COLUMNS]
    lines = ["| " + " | ".join([group.title, *head, "seeds", "minutes"]) + " |", "|---" * (len(COLUMNS) + 3) + "|"]
    for label, cell in group.cells.items():
        runs = [found[name] for name in map(cell.name, seeds) if name in found]
        entries = [_entry(runs, task, metric) for task, metric in COLUMNS] if runs else ["not run"] * len(COLUMNS)
        minutes = f"{np.mean([sum(run['wall_seconds'].values()) for run in runs]) / 60:.1f}" if runs else ""
        lines.append("| " + " | ".join([label, *entries, str(len(runs)), minutes]) + " |")
    return "\n".join(lines)


def _entry(runs: Sequence[Mapping[str, Any]], task: str, metric: str) -> str:
    if any(task not in run["metrics"] for run in runs):
        return "not trained"
    mean = f"{np.mean([run['metrics'][task][metric] for run in runs]):.4f}"
    if metric != "NDCG@10":
        return mean
    low, high = np.mean([run["intervals"][task][metric] for run in runs], axis=0)
    return f"{mean} ({low:.4f} to {high:.4f})"


def tables(found: Mapping[str, Mapping[str, Any]], *, seeds: Sequence[int]) -> str:
    """Return the tables of all groups in Markdown, and whose machine the numbers come from."""
    parts = [group_table(group, found, seeds=seeds) for group in GROUPS]
    machines = {_machine(content) for content in found.values()}
    return "\n\n".join([*parts, *(f"Machine: {machine}." for machine in sorted(machines))])


def _machine(content: Mapping[str, Any]) -> str:
    told = content["circumstances"]
    return f"{told['machine']}, {told['device']}, {told['threads']} threads, torch {told['torch']}"


def insert_tables(page: str, text: str, *, name: str) -> str:
    """Return the page with `text` between the markers of `name`.

    Raises
    ------
    FormatError
        If the page does not have both markers.
    """
    begin, end = f"<!-- ablation {name}: begin -->", f"<!-- ablation {name}: end -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise FormatError(f"the page has no place for the tables: expected the lines {begin} and {end}. Add them.")
    return page[: page.index(begin) + len(begin)] + f"\n\n{text}\n\n" + page[page.index(end) :]


def main(arguments: list[str] | None = None) -> int:
    """Fill in missing cells; 0 when all of them are there or time is over, 1 after an error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="as for gensar_end_to_end.py")
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--groups", nargs="+", choices=[group.key for group in GROUPS], help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="default: 0")
    parser.add_argument("--cells", type=int, help="run so many cells at most")
    parser.add_argument("--minutes", type=float, help="start no cell after so many minutes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the folder of result files lies")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where unfinished runs lie")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page with the markers")
    parser.add_argument("--list", action="store_true", help="only say what there is and what is missing")
    asked = parser.parse_args(arguments)
    name = f"{'ml-100k' if asked.data is None else asked.data.resolve().name}-{asked.preset}"
    results = asked.results / f"ablation-{name}"
    try:
        found = read_results(results)
        groups = [group for group in GROUPS if asked.groups is None or group.key in asked.groups]
        cells = [cell for group in groups for cell in group.cells.values()]
        wanted = {cell.name(seed): (cell, seed) for seed in asked.seeds for cell in cells}
        missing = [key for key in wanted if key not in found]
        if asked.list:
            print("\n".join(f"{'missing' if key in missing else 'there':8}{key}" for key in wanted))
            return 0
        # Before the hours of work: a page without markers would be noticed after them.
        insert_tables(asked.page.read_text(encoding="utf-8"), "", name=name)
        begin, failed = time.monotonic(), 0
        for done, key in enumerate(missing):
            if done == asked.cells or (asked.minutes is not None and time.monotonic() - begin > 60 * asked.minutes):
                print(f"{len(missing) - done} cells are left; the same command goes on.")
                break
            print(f"cell {done + 1} of {len(missing)}: {key}", flush=True)
            cell, seed = wanted[key]
            status = run_cell(cell, seed=seed, data=asked.data, preset=asked.preset, results=results, runs=asked.runs)
            if status == 130:
                return status
            failed += status != 0
        found = read_results(results)
        seeds = sorted({content["seed"] for content in found.values()})
        text = insert_tables(asked.page.read_text(encoding="utf-8"), tables(found, seeds=seeds), name=name)
        write_whole(asked.page, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except KeyboardInterrupt:
        return 130
    except (SemidError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {asked.page}: {len(found)} results")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
