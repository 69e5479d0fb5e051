"""The whole program on a small folder of data: its table, its files, its errors, Ctrl-C and --resume."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gensar.evaluation import Evaluator
from gensar.soft import load_model
from gensar_end_to_end import main
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

import semid

N_ITEMS, N_USERS = 100, 20  # of the fixture `data`


@pytest.fixture(autouse=True)
def cached(cached_embeddings):
    """All tests here embed the same texts."""


@pytest.fixture
def tiny(data, tmp_path):
    """Call the program on the toy folder with preset tiny and further arguments."""
    return lambda *arguments, out="run": main(
        ["--preset", "tiny", "--data", str(data), "--out", str(tmp_path / out), *arguments]
    )


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("backbone", ["causal", "t5"])
def test_a_run_leaves_everything_and_is_printed_again(backbone, tiny, tmp_path, capsys):
    assert tiny("--backbone", backbone) == 0
    printed = capsys.readouterr().out
    results = results_of(tmp_path / "run")
    assert results["table"] in printed
    for task in ("recommendation", "search"):
        counts = results["validity"][task]
        n_found = counts["generated"]
        assert counts == {"generated": n_found, "real": n_found, "repeated": 0}
        if backbone == "causal" and task == "search":  # which scores the items of the query
            assert n_found == 0
        else:
            assert n_found == 20 * N_USERS
            assert f"{task}: {n_found} of {n_found} generated rows are real items" in printed
        assert set(results["metrics"][task]) == {f"{name}@{k}" for k in (1, 5, 10, 20) for name in ("HR", "NDCG")}
    assert ("whole_catalogue" in results) == (backbone == "causal")
    assert set(results["floors"]["search"]) >= {"BM25"}
    assert results["resolution"]["n_collisions_after"] == 0
    assert {"seed", "recipe", "wall_seconds", "circumstances"} <= results.keys()

    auto = AutoModelForCausalLM if backbone == "causal" else AutoModelForSeq2SeqLM
    model = auto.from_pretrained(tmp_path / "run" / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    sids = semid.SemanticIds.from_pretrained(tmp_path / "run" / "ids")
    assert len(sids) == N_ITEMS
    assert model.get_input_embeddings().weight.shape[0] >= len(tokenizer)
    pictures = {path.name for path in (tmp_path / "run" / "pictures").iterdir()}
    assert pictures == {
        "codebook_usage_collaborative.png", "codebook_usage_semantic.png", "prefix_tree_collaborative.png",
        "prefix_tree_semantic.png", "loss_curve.png", "metric_bars.png",
    }  # fmt: skip

    assert tiny("--backbone", backbone, "--resume") == 0
    assert results["table"] in capsys.readouterr().out


@pytest.mark.parametrize(("collaborative", "dims"), [("ppmi", 64), ("sasrec", 64), ("both", 128)])
def test_the_collaborative_view_and_what_it_took(collaborative, dims, tiny, tmp_path):
    assert tiny("--collaborative", collaborative, "--identifier", "collaborative-kmeans") == 0
    results = results_of(tmp_path / "run")
    assert results["recipe"]["collaborative"] == collaborative
    assert ("collaborative" in results) == (collaborative != "ppmi")
    weights = load_model(tmp_path / "run" / "model").get_input_embeddings().item_features
    assert weights.shape == (N_ITEMS, 384 + dims)
    if collaborative != "ppmi":
        assert results["collaborative"]["sasrec_epochs"] >= 1
        assert results["collaborative"]["sasrec_cpu_seconds"] > 0


def test_same_seed_same_table_also_after_ctrl_c(tiny, tmp_path, monkeypatch, capsys):
    assert tiny(out="whole") == 0
    evaluate = Evaluator.evaluate

    def interrupt(self, *arguments, **options):
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(Evaluator, "evaluate", evaluate)
        return evaluate(self, *arguments, **options)

    monkeypatch.setattr(Evaluator, "evaluate", interrupt)
    assert tiny(out="cut") == 130
    assert "Go on with the same command and --resume." in capsys.readouterr().err
    assert (tmp_path / "cut" / "checkpoint.pt").is_file()
    assert not (tmp_path / "cut" / "results.json").exists()
    assert tiny("--resume", out="cut") == 0
    whole, cut = results_of(tmp_path / "whole"), results_of(tmp_path / "cut")
    for results in (whole, cut):
        assert results["training"].pop("cpu_seconds") > 0  # how long it took is no part of the result
    for key in ("metrics", "floors", "table", "training"):
        assert cut[key] == whole[key]


def test_another_seed_does_not_resume(tiny, tmp_path, capsys):
    assert tiny() == 0
    assert tiny("--resume", "--seed", "1") == 1  # nor is the table of the finished run shown as its own
    assert "holds another run" in capsys.readouterr().err
    (tmp_path / "run" / "results.json").unlink()
    assert tiny("--resume", "--seed", "1") == 1
    assert "holds another run" in capsys.readouterr().err


def test_a_run_in_the_way_is_refused(tiny, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert tiny() == 1
    assert "is in use: expected a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "/nowhere/at/all"], "no data folder: expected a folder"),
        (
            ["--device", "quantum"],
            "--device cannot be used: expected auto, cpu or a GPU that torch sees, got 'quantum'",
        ),
        (["--recent", "5"], "the causal backbone learns from whole histories: expected no --recent, got 5."),
    ],
)
def test_bad_input_leaves_no_folder(arguments, message, tiny, tmp_path, capsys):
    assert tiny(*arguments) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_too_few_items_leave_no_folder(tiny, data, tmp_path, capsys):
    few = tmp_path / "few"
    few.mkdir()
    (few / "items.jsonl").write_text("".join((data / "items.jsonl").read_text().splitlines(True)[:9]))
    rows = "".join(f"{user},{(user + at) % 9},{at},{at}\n" for user in range(4) for at in range(5))
    (few / "interactions.csv").write_text("user_id,item_id,position,timestamp\n" + rows)
    assert tiny("--data", str(few)) == 1
    assert "expected at least 48" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_wrong_usage_exits_with_two(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--seed", "-1"])
    assert caught.value.code == 2
    assert "--seed is negative: expected at least 0, got -1." in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--beams", "5"])
    assert caught.value.code == 2
    assert "--beams is too small: expected at least 20, the length of a list, got 5." in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--label-smoothing", "1"])
    assert caught.value.code == 2
    assert "--label-smoothing is out of range: expected 0 <= S < 1, got 1.0." in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--steps", "0"])
    assert caught.value.code == 2
    assert "--steps is too small: expected at least 1, got 0." in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--patience", "0"])
    assert caught.value.code == 2
    assert "--patience is too small: expected at least 1, got 0." in capsys.readouterr().err


def test_help_names_presets_and_backbones():
    """As a program of its own, from another folder."""
    script = Path(__file__).parents[2] / "examples" / "gensar_end_to_end.py"
    done = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=True, cwd=os.sep, timeout=120
    )
    assert "{tiny,small,medium,paper}" in done.stdout
    assert "{causal,t5}" in done.stdout
    assert "what a reader needs first:" in done.stdout
    for switch in ("--training-tasks", "--history", "--evaluation", "--decoder", "--baselines", "--trainer"):
        assert switch not in done.stdout  # experiments are those of gensar.lab.run
