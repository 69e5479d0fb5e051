"""The driver of the ablation, by two cells at the tiny preset, and its tables."""

import json
import re
from pathlib import Path

import pytest
from gensar.lab import ablate
from gensar.lab.ablate import GROUPS, PAGE, RESULTS, Cell, Group, group_table, insert_tables, main, read_results, tables
from gensar.lab.run import main as program

from semid.errors import FormatError

MARKERS = "Before.\n<!-- ablation toydata-tiny: begin -->\nold\n<!-- ablation toydata-tiny: end -->\nAfter.\n"


@pytest.fixture
def driver(data, tmp_path, cached_embeddings):
    (tmp_path / "page.md").write_text(MARKERS)
    folders = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    page = ["--page", str(tmp_path / "page.md")]
    return lambda *arguments: main(["--data", str(data), "--preset", "tiny", *folders, *page, *arguments])


def test_two_cells_are_filled_and_not_run_again(driver, tmp_path, capsys, monkeypatch):
    assert driver("--groups", "policy", "--cells", "1") == 0
    assert "1 cells are left; the same command goes on." in capsys.readouterr().out
    folder = tmp_path / "results" / "ablation-toydata-tiny"
    assert [path.name for path in folder.iterdir()] == ["seed=0.json"]
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("Before.\n") and page.endswith("After.\n") and "old" not in page
    assert "| suffix | not run | not run | not run | not run | 0 |  |" in page

    assert driver("--groups", "policy") == 0
    assert {path.name for path in folder.iterdir()} == {"seed=0.json", "policy=suffix,seed=0.json"}
    suffix = json.loads((folder / "policy=suffix,seed=0.json").read_text())
    assert suffix["recipe"]["policy"] == "suffix" and suffix["resolution"]["n_collisions_after"] == 0
    shown = re.search(r"\| suffix \| (\S+) \| (\S+) \((\S+) to (\S+)\) \|", (tmp_path / "page.md").read_text())
    assert float(shown[1]) == round(suffix["metrics"]["recommendation"]["HR@10"], 4)
    low, high = suffix["intervals"]["recommendation"]["NDCG@10"]
    assert [float(shown[at]) for at in (3, 4)] == [round(low, 4), round(high, 4)]
    assert not any((tmp_path / "runs" / "ablation-toydata-tiny").iterdir())  # finished runs go

    monkeypatch.setattr(ablate, "run_cell", lambda *_, **__: pytest.fail("a cell was run again"))
    assert driver("--groups", "policy") == 0
    capsys.readouterr()
    assert driver("--groups", "policy", "normalizer", "--list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "there   seed=0",
        "there   policy=suffix,seed=0",
        "missing normalize=window,seed=0",
        "missing normalize=allowed,seed=0",
    ]


def test_a_cell_that_fails_leaves_no_result_and_the_others_run(driver, tmp_path, monkeypatch):
    statuses = iter([1, 0])
    monkeypatch.setattr(ablate, "run_cell", lambda *_, **__: next(statuses))
    assert driver("--groups", "policy") == 1
    assert next(statuses, None) is None
    assert "not run" in (tmp_path / "page.md").read_text()


def test_ctrl_c_in_a_cell_ends_the_driver(driver, monkeypatch):
    monkeypatch.setattr(ablate, "run_cell", lambda *_, **__: 130)
    assert driver() == 130


def test_no_cell_starts_when_the_time_is_over(driver, monkeypatch, capsys):
    monkeypatch.setattr(ablate, "run_cell", lambda *_, **__: pytest.fail("a cell was started"))
    assert driver("--groups", "beams", "--minutes", "0") == 0
    assert "3 cells are left" in capsys.readouterr().out


def test_a_page_without_markers_is_refused_before_the_work(driver, tmp_path, monkeypatch, capsys):
    (tmp_path / "page.md").write_text("No markers.\n")
    monkeypatch.setattr(ablate, "run_cell", lambda *_, **__: pytest.fail("a cell was started"))
    assert driver() == 1
    assert "the page has no place for the tables: expected the lines <!-- ablation toydata" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"seed=0\.json is damaged: expected the result of a cell, got JSONDecodeError"),
        ("[1]", r"is damaged"),
        ("{}", r"is damaged: .*KeyError\('cell'\)"),
        ('{"cell": "seed=1"}', r"has another cell's name: expected that of its file, got 'seed=1'\. Delete it\."),
    ],
)
def test_files_that_are_no_results(text, message, tmp_path):
    (tmp_path / "seed=0.json").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_results(tmp_path)


def result(value, *, tasks=("recommendation", "search")):
    return {
        "metrics": {task: {"HR@10": value, "NDCG@10": value / 2} for task in tasks},
        "intervals": {task: {"NDCG@10": [value / 2 - 0.01, value / 2 + 0.03]} for task in tasks},
        "wall_seconds": {"train": 60.0, "evaluate": 30.0},
    }


def test_a_table_tells_means_over_seeds_and_what_is_missing():
    group = Group("any", "beams", {"10": Cell(beams=10), "20": Cell(), "50": Cell(beams=50)})
    found = {
        "beams=10,seed=0": result(0.2),
        "beams=10,seed=2": result(0.4),
        "seed=2": result(0.1, tasks=("search",)),
    }
    assert group_table(group, found, seeds=[0, 1, 2]).splitlines() == [
        "| beams | rec HR@10 | rec NDCG@10 | search HR@10 | search NDCG@10 | seeds | minutes |",
        "|---|---|---|---|---|---|---|",
        "| 10 | 0.3000 | 0.1500 (0.1400 to 0.1800) | 0.3000 | 0.1500 (0.1400 to 0.1800) | 2 | 1.5 |",
        "| 20 | not trained | not trained | 0.1000 | 0.0500 (0.0400 to 0.0800) | 1 | 1.5 |",
        "| 50 | not run | not run | not run | not run | 0 |  |",
    ]


def test_groups_share_the_default_and_names_are_distinct():
    cells = {cell.name(0): cell for group in GROUPS for cell in group.cells.values()}
    assert cells["seed=0"] == Cell()
    assert len({tuple(cell.switches()) for cell in cells.values()}) == len(cells)
    assert Cell(backbone="t5", recent=5).switches() == ["--backbone", "t5", "--recent", "5"]


def test_the_program_knows_all_switches(data, tmp_path, capsys):
    """A folder that is in use is refused after the arguments have been read, and before any work."""
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    for group in GROUPS:
        for cell in group.cells.values():
            assert program([*cell.switches(), "--data", str(data), "--out", str(tmp_path / "used")]) == 1
            assert "is in use" in capsys.readouterr().err


def test_markers_come_once_each():
    assert insert_tables(MARKERS, "new", name="toydata-tiny").splitlines()[1:-1] == [
        "<!-- ablation toydata-tiny: begin -->", "", "new", "", "<!-- ablation toydata-tiny: end -->",
    ]  # fmt: skip
    with pytest.raises(FormatError, match="expected the lines <!-- ablation toydata-tiny: begin --> and"):
        insert_tables(MARKERS * 2, "new", name="toydata-tiny")


def test_the_page_shows_the_committed_results():
    page = Path(PAGE).read_text()
    shown = re.findall(r"<!-- ablation (\S+): begin -->", page)
    assert shown
    for name in shown:
        found = read_results(RESULTS / f"ablation-{name}")
        seeds = sorted({content["seed"] for content in found.values()})
        assert insert_tables(page, tables(found, seeds=seeds), name=name) == page
