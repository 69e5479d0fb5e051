"""Each attack runs, a little of it, and finds nothing; its page shows what the committed results say."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from attack import selections
from attack.page import NAMES, PAGE, RESULTS, render
from attack.row import Row

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", sorted({*NAMES} - {"families", "mutants", "fuzz", "memory", "threads"}))
def test_a_little_of_an_attack_finds_nothing(name):
    """In a process of its own, since it forks many; the others take minutes even then."""
    run = subprocess.run(
        [sys.executable, "-m", "attack", name, "--scale", "0.002"], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | dict(PYTHONPATH=f"{ROOT / 'tests'}:{ROOT}"),
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{name}: " in run.stdout


def test_a_wrong_selection_is_counted():
    expected = [np.zeros((selections.BATCH, 2), int) for _ in range(4)]
    got = [array.copy() for array in expected]
    got[0][3] = 1
    row = Row("", 0, {})
    selections._judge(row, got, expected, np.zeros((selections.BATCH, 2, 2), bool), 0)
    assert row.faults == {"wrong": 1, "invalid": 1, "duplicate": 1}


@pytest.mark.parametrize("name", NAMES)
def test_results_have_tries_and_no_fault(name):
    path = RESULTS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path} has not been made")
    rows = json.loads(path.read_text())["rows"]
    assert rows and all(row["tried"] > 0 and not any(row["faults"].values()) for row in rows)
    assert importlib.import_module(f"attack.{name}").TITLE


def test_the_page_shows_the_results():
    assert render(PAGE.read_text()) == PAGE.read_text()
