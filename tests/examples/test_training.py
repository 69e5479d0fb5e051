"""Training learns, repeats with its seed, stops on Ctrl-C, and goes on as if nothing had happened."""

import math
import signal

import pytest
import torch
from gensar import training
from gensar.models import CausalBackbone, T5Backbone
from gensar.training import (
    TrainingInterrupted,
    TrainingState,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    train,
)

from semid.errors import FormatError

BACKBONES = [CausalBackbone, T5Backbone]


@pytest.fixture
def trained(teach, toy):
    """Train the toy model; returns (model, state)."""

    def run(backbone, checkpoint, *, validate=lambda: {"search": 0.5}, seed=3):
        model, language = teach(backbone, seed=seed)
        return model, train(
            backbone, model, toy.histories, language, seed=seed, checkpoint=checkpoint, validate=validate
        )

    return run


def test_learning_rate_warms_up_and_falls(with_recipe):
    recipe = with_recipe(n_steps=100, n_warmup=10, learning_rate=1.0)
    rates = [learning_rate(step, recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9]
    assert rates[50] == pytest.approx(0.03 + 0.97 / 2)
    assert rates[99] == pytest.approx(0.03 + 0.97 * (1 + math.cos(0.99 * math.pi)) / 2)


def test_a_constant_learning_rate_stays_after_its_warm_up(with_recipe):
    recipe = with_recipe(n_steps=100, n_warmup=10, learning_rate=2.0, schedule="constant")
    rates = [learning_rate(step, recipe) for step in range(100)]
    assert rates == pytest.approx([0.2 * min(10, step + 1) for step in range(100)])


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_loss_falls(kind, trained, with_recipe, tmp_path):
    backbone = kind(with_recipe(n_steps=120, learning_rate=5e-3, dropout=0.0))
    _, state = trained(backbone, tmp_path / "c.pt")
    assert sum(state.losses[-10:]) < 0.9 * sum(state.losses[:10])


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_resumed_run_equals_an_uninterrupted_one(kind, trained, recipe, tmp_path):
    """Ctrl-C comes during the first validation, and again later."""
    scores = {4: 0.2, 8: 0.9, 12: 0.4}
    whole, expected = trained(kind(recipe), tmp_path / "whole.pt", validate=lambda: {"search": scores.pop(min(scores))})

    calls = []

    def validate():
        calls.append(None)
        if len(calls) < 3:
            signal.raise_signal(signal.SIGINT)
        return {"search": [0.2, 0.9, 0.4][len(calls) - 1]}

    for _ in range(2):
        with pytest.raises(TrainingInterrupted):
            trained(kind(recipe), tmp_path / "c.pt", validate=validate)
        torch.manual_seed(99)  # a new process begins elsewhere
    resumed, state = trained(kind(recipe), tmp_path / "c.pt", validate=validate)

    assert len(calls) == 3
    assert state.losses == expected.losses
    assert state.validations == expected.validations
    assert (state.best_step, state.best_score) == (expected.best_step, expected.best_score) == (8, 0.9)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=0, atol=0)


def test_other_seeds_give_other_runs(trained, recipe, tmp_path):
    _, first = trained(CausalBackbone(recipe), tmp_path / "a.pt", seed=1)
    _, second = trained(CausalBackbone(recipe), tmp_path / "b.pt", seed=2)
    assert first.losses != second.losses


def test_the_best_weights_are_kept(trained, recipe, tmp_path):
    backbone = CausalBackbone(recipe)
    seen = []

    def validate():
        seen.append({"search": [0.3, 0.1, 0.2][len(seen)], "recommendation": 0.0})
        return seen[-1]

    model, state = trained(backbone, tmp_path / "c.pt", validate=validate)
    assert (state.best_step, state.best_score) == (4, pytest.approx(0.15))
    assert [entry["step"] for entry in state.validations] == [4, 8, 12]
    assert not model.training
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state.best_weights[name], rtol=0, atol=0)


@pytest.fixture
def ctrl_c_raises():
    """As at a terminal; a job in the background is started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_ends_at_once(trained, recipe, tmp_path, ctrl_c_raises):
    def validate():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        trained(CausalBackbone(recipe), tmp_path / "c.pt", validate=validate)
    assert caught.type is KeyboardInterrupt
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_finished_checkpoint_trains_no_more(trained, recipe, tmp_path):
    _, first = trained(CausalBackbone(recipe), tmp_path / "c.pt")
    before = (tmp_path / "c.pt").read_bytes()
    _, again = trained(CausalBackbone(recipe), tmp_path / "c.pt")
    assert again.losses == first.losses
    assert (tmp_path / "c.pt").read_bytes() == before


def test_training_ends_when_patience_is_over(trained, with_recipe, tmp_path):
    """The mean of both tasks counts; an equal one is no gain, and a gain begins anew."""
    backbone = CausalBackbone(with_recipe(n_validations=6, patience=2))
    told = [(0.3, 0.1), (0.1, 0.3), (0.3, 0.3), (0.5, 0.0), (0.2, 0.2), (0.9, 0.9)]
    seen = []

    def validate():
        seen.append(dict(zip(("recommendation", "search"), told[len(seen)], strict=True)))
        return seen[-1]

    _, state = trained(backbone, tmp_path / "c.pt", validate=validate)
    assert len(seen) == 5
    assert (state.step, state.best_step) == (10, 6)
    _, again = trained(backbone, tmp_path / "c.pt", validate=validate)
    assert (len(seen), again.step, again.losses) == (5, 10, state.losses)


def test_without_patience_all_steps_are_taken(trained, with_recipe, tmp_path):
    told = iter([0.9, 0.1, 0.1, 0.1, 0.1, 0.1])
    backbone = CausalBackbone(with_recipe(n_validations=6))
    _, state = trained(backbone, tmp_path / "c.pt", validate=lambda: {"search": next(told)})
    assert (state.step, state.best_step) == (12, 2)


def test_what_is_validated_and_kept_is_the_average(teach, toy, with_recipe, tmp_path, monkeypatch):
    """Against the sum of the weights of all steps, each times what the later decays left of it."""
    backbone = CausalBackbone(with_recipe(average=0.5, n_validations=1))
    model, language = teach(backbone)
    name, weight = next(iter(model.named_parameters()))
    after, validated = [], []
    step = training._step

    def noted(*arguments, **options):
        loss = step(*arguments, **options)
        after.append(weight.detach().clone())
        return loss

    def validate():
        validated.append(weight.detach().clone())
        return {"search": 0.5}

    monkeypatch.setattr(training, "_step", noted)
    state = train(backbone, model, toy.histories, language, seed=3, checkpoint=tmp_path / "c.pt", validate=validate)
    expected = after[0]
    for at, later in enumerate(after[1:], start=2):
        decay = min(0.5, (1 + at) / (10 + at))
        expected = decay * expected + (1 - decay) * later
    for found in (validated[0], state.average[name], model.state_dict()[name]):
        torch.testing.assert_close(found, expected)
    assert not torch.equal(expected, after[-1])
    weights = torch.load(tmp_path / "c.pt", weights_only=True)["model"]  # training goes on with the weights themselves
    torch.testing.assert_close(weights[name], after[-1])


def test_without_an_average_the_weights_are_kept(trained, with_recipe, tmp_path):
    _, state = trained(CausalBackbone(with_recipe(average=0.0)), tmp_path / "c.pt")
    assert not state.average


def model_and_optimizer(seed):
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_round_trip(tmp_path):
    model, optimizer = model_and_optimizer(0)
    state = TrainingState(step=3, epoch=1, batch=2, losses=[1.5], validations=[{"step": 3, "search": 0.5}])
    state.best_weights = {"weight": torch.ones(2)}
    save_checkpoint(tmp_path / "c.pt", state, model=model, optimizer=optimizer)
    expected = torch.rand(4)  # what the generator draws next
    other, other_optimizer = model_and_optimizer(1)
    loaded = load_checkpoint(tmp_path / "c.pt", model=other, optimizer=other_optimizer)
    assert vars(loaded).keys() == vars(state).keys()
    assert (loaded.step, loaded.epoch, loaded.batch, loaded.losses) == (3, 1, 2, [1.5])
    torch.testing.assert_close(torch.rand(4), expected, rtol=0, atol=0)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=0, atol=0)
    assert other_optimizer.state_dict()["state"][0]["step"] == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "another model"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "c.pt"
    model, optimizer = model_and_optimizer(0)
    save_checkpoint(path, TrainingState(), model=model, optimizer=optimizer)
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"no"}.get(damage, content))
    if damage == "another model":
        model = torch.nn.Linear(5, 2)
        optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(FormatError, match=r"cannot be resumed: expected the checkpoint of this model, got .*--out"):
        load_checkpoint(path, model=model, optimizer=optimizer)
