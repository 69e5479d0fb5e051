"""One table for the runs of several seeds: means, the lowest and the highest seed, and the intervals over users.

    cd examples && python -m gensar.lab.seeds RESULTS.json RESULTS.json ..

The table separates two sources of spread: the random numbers of the training (lowest and highest seed), and the users
who happened to be tested (95 %, the mean of the seeds' interval ends).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semid.errors import InvalidValueError, SemidError

from ..dataset import Task
from ..metrics import LEVEL, SHOWN, format_table

__all__ = ["main", "seeds_table"]


def seeds_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of contents of result files that differ in their seeds alone.

    Raises
    ------
    InvalidValueError
        If there are none, two have one seed, or they were asked for different things.
    """
    seeds = [run["seed"] for run in runs]
    if not runs or len(set(seeds)) < len(seeds):
        raise InvalidValueError(f"no table of these seeds: expected one result file per seed, got seeds {seeds}.")
    for key in ("data", "preset", "backbone", "recipe", "floors"):
        if any(run[key] != runs[0][key] for run in runs):
            raise InvalidValueError(f"these runs are not of one kind: expected the same {key} in all, got several.")
    tasks: list[Task] = list(runs[0]["metrics"])
    model, below = {}, {}
    for task in tasks:
        model[task] = {name: _mean(runs, "metrics", task, name) for name in SHOWN}
        every = {name: [run["metrics"][task][name] for run in runs] for name in SHOWN}
        below[task] = {
            "  lowest seed": {name: min(values) for name, values in every.items()},
            "  highest seed": {name: max(values) for name, values in every.items()},
        }
        for side, word in enumerate(("from", "to")):
            below[task][f"  {LEVEL:.0%} {word}"] = {
                name: float(np.mean([run["intervals"][task][name][side] for run in runs])) for name in SHOWN
            }
        if all(task in run.get("whole_catalogue", {}) for run in runs):
            below[task]["  of the whole catalogue"] = {
                name: _mean(runs, "whole_catalogue", task, name) for name in SHOWN
            }
    name = f"semid, {runs[0]['backbone']}, mean of {len(runs)} seeds"
    return format_table(model, runs[0]["floors"], name=name, below=below, shown=SHOWN)


def _mean(runs: Sequence[Mapping[str, Any]], key: str, task: str, name: str) -> float:
    return float(np.mean([run[key][task][name] for run in runs]))


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 0, or 1 for files that do not belong together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="RESULTS.json")
    try:
        files = parser.parse_args(arguments).files
        print(seeds_table([json.loads(path.read_text(encoding="utf-8")) for path in files]))
    except (SemidError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
