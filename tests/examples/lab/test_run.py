"""The program of the experiments: without their switches it is the main job, and each of them leaves its results."""

import json

import pytest
from gensar.lab.run import LAB, main
from gensar.run import MAIN
from gensar_end_to_end import main as main_job


@pytest.fixture(autouse=True)
def cached(cached_embeddings):
    """All tests here embed the same texts."""


@pytest.fixture
def tiny(data, tmp_path):
    """Call the program on the toy folder with preset tiny and further arguments."""
    return lambda *arguments, out="run", program=main: program(
        ["--preset", "tiny", "--data", str(data), "--out", str(tmp_path / out), *arguments]
    )


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def test_without_experiments_it_is_the_main_job(tiny, tmp_path):
    assert tiny("--seed", "3", out="lab") == 0
    assert tiny("--seed", "3", out="main", program=main_job) == 0
    lab, job = (results_of(tmp_path / out) for out in ("lab", "main"))
    for results in (lab, job):
        assert results["training"].pop("cpu_seconds") > 0
        results.pop("wall_seconds")
    assert lab == job
    assert tiny("--seed", "3", "--resume", out="lab", program=main_job) == 0


def test_the_tables_of_the_main_job_are_part_of_it():
    for table, names in vars(MAIN).items():
        assert set(names) < set(getattr(LAB, table))
        assert all(getattr(LAB, table)[name] is names[name] for name in names)


def test_both_protocols_stand_in_the_results(tiny, tmp_path, capsys):
    assert tiny("--evaluation", "both", "--decoder", "hf", "--beams", "20") == 0
    results = results_of(tmp_path / "run")
    ranked = results["candidates"]
    printed = capsys.readouterr().out
    assert all(part in printed for part in results["table"].split("\n\n"))
    assert results["table"].endswith(ranked["table"])
    for task in ("recommendation", "search"):
        for spread, metrics in (
            (results["intervals"], results["metrics"]),
            (ranked["intervals"], ranked["metrics"]),
        ):
            assert all(low <= metrics[task][name] <= high for name, (low, high) in spread[task].items())
        names = {f"{name}@{k}" for k in (1, 5, 10, 20) for name in ("HR", "NDCG")}
        assert names == set(ranked["metrics"][task]) == set(ranked["beams"][task])
        assert "drawn by the rules of the paper" in ranked["notes"][task]


def test_candidates_alone(tiny, tmp_path):
    assert tiny("--evaluation", "candidates") == 0
    results = results_of(tmp_path / "run")
    assert results["metrics"] == results["candidates"]["metrics"]
    assert "validity" not in results and results["table"].startswith("1 + 99 candidates (")


def test_one_task_alone_with_the_papers_history(tiny, tmp_path):
    """Switches that change the recipe, which the result file tells."""
    switches = (
        "--backbone t5 --training-tasks six --tasks search --history published --recent 3 "
        "--policy suffix --normalize window"
    ).split()
    assert tiny(*switches, "--identifier", "separate-kmeans") == 0
    results = results_of(tmp_path / "run")
    assert list(results["metrics"]) == ["search"]
    wanted = {
        "training_tasks": "six", "tasks": "search", "search_share": 1.0, "history": "published",
        "n_recent": 3, "policy": "suffix", "normalize": "window", "identifier": "separate-kmeans",
    }  # fmt: skip
    assert {key: results["recipe"][key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--history", "published"], "expected --history strict, got published. Pass --backbone t5."),
        (["--training-tasks", "six"], "expected --training-tasks two, got six. Pass --backbone t5."),
        (["--data", "/nowhere/at/all"], "no data folder: expected a folder"),
    ],
)
def test_bad_input_leaves_no_folder(arguments, message, tiny, tmp_path, capsys):
    assert tiny(*arguments) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_bad_candidate_file_is_noticed_before_the_work(tiny, data, tmp_path, capsys):
    folder = tmp_path / "other"
    folder.mkdir()
    for path in data.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "cand_rec_test.npy").write_bytes(b"not an array")
    assert tiny("--data", str(folder), "--evaluation", "candidates") == 1
    captured = capsys.readouterr()
    assert "cand_rec_test.npy cannot be read" in captured.err and "embed items" not in captured.out
    assert not (tmp_path / "run").exists()
