"""The table of several seeds: means and ends by hand, runs that do not belong together, and what the page shows."""

import json
import re
from pathlib import Path

import pytest
from gensar.lab.seeds import main, seeds_table

from semid.errors import InvalidValueError

ROOT = Path(__file__).parents[3]
SHOWN = re.compile(r"<!-- seeds: (?P<files>\S+) -->\n```text\n(?P<table>.*?)\n```", flags=re.DOTALL)
NAMES = ("HR@5", "NDCG@5", "HR@10", "NDCG@10")


def run(seed, value, **changes):
    return {
        "seed": seed, "data": "toy", "preset": "tiny", "backbone": "causal", "recipe": {"n_steps": 3},
        "metrics": {"search": {**dict.fromkeys(NAMES, value), "HR@1": 0.0}},
        "intervals": {"search": {name: [value - 0.1, value + 0.2] for name in NAMES}},
        "whole_catalogue": {"search": dict.fromkeys(NAMES, value / 2)},
        "floors": {"search": {"BM25": dict.fromkeys(NAMES, 0.25)}},
        **changes,
    }  # fmt: skip


def test_means_and_ends():
    lines = seeds_table([run(0, 0.3), run(2, 0.5)]).splitlines()
    split = [re.split(r"\s{2,}", line.strip()) for line in lines]
    rows = {label: values for label, *values in split}
    assert rows["semid, causal, mean of 2 seeds"] == ["0.4000"] * 4
    assert rows["lowest seed"] == ["0.3000"] * 4
    assert rows["highest seed"] == ["0.5000"] * 4
    assert rows["95% from"] == ["0.3000"] * 4
    assert rows["95% to"] == ["0.6000"] * 4
    assert rows["of the whole catalogue"] == ["0.2000"] * 4
    assert rows["BM25"] == ["0.2500"] * 4
    assert lines[-1] == "semid, causal, mean of 2 seeds: better than every baseline on every metric."


def test_runs_that_do_not_belong_together():
    with pytest.raises(InvalidValueError, match=r"expected one result file per seed, got seeds \[1, 1\]"):
        seeds_table([run(1, 0.3), run(1, 0.3)])
    with pytest.raises(InvalidValueError, match=r"expected one result file per seed, got seeds \[\]"):
        seeds_table([])
    with pytest.raises(InvalidValueError, match="expected the same recipe in all, got several"):
        seeds_table([run(0, 0.3), run(1, 0.3, recipe={"n_steps": 4})])


def test_the_program_prints_it(tmp_path, capsys):
    files = [tmp_path / "0.json", tmp_path / "1.json"]
    for seed, path in enumerate(files):
        path.write_text(json.dumps(run(seed, 0.3)))
    assert main([str(path) for path in files]) == 0
    assert capsys.readouterr().out.strip("\n") == seeds_table([run(0, 0.3), run(1, 0.3)])
    assert main([str(files[0])] * 2) == 1
    assert "error: no table of these seeds" in capsys.readouterr().err


def test_the_page_shows_the_committed_results():
    shown = list(SHOWN.finditer((ROOT / "docs" / "gensar-results.md").read_text(encoding="utf-8")))
    assert shown
    for match in shown:
        files = sorted(ROOT.glob(match["files"]))
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in files]
        assert match["table"].strip("\n") == seeds_table(runs)
