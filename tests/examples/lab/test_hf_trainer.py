"""Training by transformers' Trainer learns, keeps the best model, and goes on where it was stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gensar.lab.hf_trainer import check_accelerate, train_hf
from gensar.models import CausalBackbone, T5Backbone
from gensar.training import train

from semid.errors import OptionalDependencyError

pytest.importorskip("accelerate")

BACKBONES = [CausalBackbone, T5Backbone]


@pytest.fixture
def trained(teach, toy):
    """Train the toy model; returns (model, state)."""

    def run(backbone, folder, *, validate=lambda: {"search": 0.5}, seed=3):
        model, language = teach(backbone, seed=seed)
        return model, train_hf(
            backbone, model, toy.histories, language, seed=seed, checkpoint=folder / "checkpoint.pt", validate=validate
        )

    return run


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_loss_falls(kind, trained, with_recipe, tmp_path):
    backbone = kind(with_recipe(n_steps=120, learning_rate=5e-3, dropout=0.0))
    _, state = trained(backbone, tmp_path)
    assert len(state.losses) == state.step == 120
    assert sum(state.losses[-10:]) < 0.9 * sum(state.losses[:10])


def test_losses_are_those_of_our_own_loop(trained, teach, toy, with_recipe, tmp_path):
    """The same batches, optimizer and rates; only dropout would draw otherwise."""
    backbone = CausalBackbone(with_recipe(dropout=0.0))
    _, state = trained(backbone, tmp_path, seed=5)
    model, language = teach(backbone, seed=5)
    own = train(
        backbone, model, toy.histories, language, seed=5, checkpoint=tmp_path / "own.pt",
        validate=lambda: {"search": 0.5},
    )  # fmt: skip
    assert state.losses == pytest.approx(own.losses, rel=1e-4)
    assert [entry["step"] for entry in state.validations] == [entry["step"] for entry in own.validations]


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_resumed_run_equals_an_uninterrupted_one(kind, trained, recipe, tmp_path):
    """It is stopped in its second validation, with the checkpoint of the first on disk."""
    scores = [{"search": 0.2}, {"search": 0.4}, {"search": 0.9}]
    told = iter(scores)
    whole, expected = trained(kind(recipe), tmp_path / "whole", validate=lambda: next(told))

    told = iter([scores[0], KeyboardInterrupt])

    def validate():
        answer = next(told)
        if answer is KeyboardInterrupt:
            raise KeyboardInterrupt
        return answer

    with pytest.raises(KeyboardInterrupt):
        trained(kind(recipe), tmp_path / "cut", validate=validate)
    torch.manual_seed(99)  # a new process begins elsewhere
    told = iter(scores[1:])
    resumed, state = trained(kind(recipe), tmp_path / "cut", validate=validate)
    assert state.losses == expected.losses and len(state.losses) == 12
    assert state.validations == expected.validations
    assert [entry["step"] for entry in state.validations] == [4, 8, 12]
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)


def test_the_best_model_of_both_tasks_is_kept(trained, recipe, tmp_path):
    told = iter([(0.1, 0.1), (0.3, 0.2), (0.0, 0.4)])
    kept = []

    def validate():
        recommendation, search = next(told)
        kept.append({name: tensor.clone() for name, tensor in model_of[0].state_dict().items()})
        return {"recommendation": recommendation, "search": search}

    model_of = []
    backbone = CausalBackbone(recipe)
    build = backbone.build
    backbone.build = lambda tokenizer: model_of.append(build(tokenizer)) or model_of[0]
    model, state = trained(backbone, tmp_path, validate=validate)
    assert (state.best_step, state.best_score) == (8, pytest.approx(0.25))
    assert state.validations[1] == {"step": 8, "recommendation": 0.3, "search": 0.2}
    assert not model.training
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, kept[1][name], rtol=0, atol=0)


def test_training_ends_when_patience_is_over_also_when_it_was_stopped_meanwhile(trained, with_recipe, tmp_path):
    """The best comes first, and the run is stopped when half of the patience is left."""
    backbone = CausalBackbone(with_recipe(n_validations=6, patience=2))
    told = iter([0.5, 0.4, KeyboardInterrupt, 0.3, 0.9])

    def validate():
        answer = next(told)
        if answer is KeyboardInterrupt:
            raise KeyboardInterrupt
        return {"search": answer}

    with pytest.raises(KeyboardInterrupt):
        trained(backbone, tmp_path, validate=validate)
    _, state = trained(backbone, tmp_path, validate=validate)
    assert (state.step, state.best_step) == (6, 2)
    assert [entry["search"] for entry in state.validations] == [0.5, 0.4, 0.3]


def test_two_processes_train_one_model(data, cached_embeddings, tmp_path):
    """The whole program by torch's launcher, on the CPU."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "gensar.lab.run"]
    command += ["--data", str(data), "--preset", "tiny", "--trainer", "hf", "--device", "cpu", "--out", str(out)]
    examples = str(Path(__file__).parents[3] / "examples")
    paths = os.pathsep.join([examples, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    results = json.loads((out / "results.json").read_text())
    assert results["trainer"] == "hf" and results["training"]["steps"] == 60
    states = sorted(path.name for path in (out / "trainer" / "checkpoint-60").glob("rng_state*"))
    assert states == ["rng_state_0.pth", "rng_state_1.pth"]


def test_a_missing_accelerate_is_named(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", missing)
    message = r"cannot import accelerate: expected it for --trainer hf, got .*\. Run pip install accelerate\."
    with pytest.raises(OptionalDependencyError, match=message):
        check_accelerate()
