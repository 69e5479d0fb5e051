"""The loop on a linear model: what is trained, kept, stopped and continued."""

import numpy as np
import pytest
import torch
from torch import nn

from semid.errors import FormatError, InvalidValueError
from semid.io.persistence import checksum_of, read_tensors, write_tensors
from semid.quantizers.networks.options import Training
from semid.quantizers.networks.training import learning_rate, pick_device, train

N_ITEMS = 50


class Run:
    """A linear model with dropout on fixed data, and the training of it."""

    def __init__(self, *, judge=None, stop_after=None, **options):
        rng = np.random.default_rng(0)
        x = torch.tensor(rng.normal(size=(N_ITEMS, 3)), dtype=torch.float32)
        y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 1))
        self.options = Training(**{"batch_size": 16, "learning_rate": 0.05, "patience": 0} | options)
        self.judge, self.stop_after, self.batches, self.states = judge, stop_after, [], []
        self.step = lambda rows: {"loss": ((self.forward(x, rows) - y[rows]) ** 2).mean()}

    def forward(self, x, rows):
        self.batches.append(rows)
        return self.model(x[rows])

    def after_epoch(self, epoch, generator):
        assert not self.model.training
        if epoch == self.stop_after:
            raise KeyboardInterrupt
        self.states.append(self.model[1].weight.detach().clone())
        value = self.judge(epoch) if self.judge else -epoch
        return {} if value is None else {"error": value, "drawn": torch.rand(1, generator=generator).item()}

    def train(self, epochs=6, **kwargs):
        kwargs = {"criterion": "error", "seed": 1, "after_epoch": self.after_epoch, **kwargs}
        self.history = train(self.model, self.step, N_ITEMS, options=self.options, epochs=epochs, **kwargs)
        return self

    @property
    def weight(self):
        return self.model[1].weight.detach()


def test_each_epoch_sees_each_item_once_in_another_order():
    run = Run().train(epochs=2)
    sizes = [len(rows) for rows in run.batches]
    assert sizes == [16, 16, 16, 2] * 2
    first, second = np.concatenate(run.batches[:4]), np.concatenate(run.batches[4:])
    assert sorted(first) == sorted(second) == list(range(N_ITEMS)) and (first != second).any()


def test_the_loss_falls_and_the_history_tells():
    history = Run().train(epochs=20).history
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert [record["epoch"] for record in history] == list(range(1, 21))
    assert history[0].keys() == {"epoch", "learning_rate", "loss", "error", "drawn"}


def test_the_best_epoch_is_restored():
    run = Run(judge=lambda epoch: abs(epoch - 3)).train()
    np.testing.assert_array_equal(run.weight, run.states[2])
    assert not run.model.training


def test_of_equal_epochs_the_first_is_the_best():
    run = Run(judge=lambda epoch: 1.0).train()
    np.testing.assert_array_equal(run.weight, run.states[0])


def test_unjudged_epochs_are_never_the_best():
    run = Run(judge=lambda epoch: None if epoch < 4 else epoch).train()
    np.testing.assert_array_equal(run.weight, run.states[3])


def test_without_judgement_the_last_epoch_stays():
    run = Run(judge=lambda epoch: None).train()
    np.testing.assert_array_equal(run.weight, run.states[-1])


@pytest.mark.parametrize("patience, epochs", [(1, 4), (2, 5), (0, 6)])
def test_patience_counts_epochs_after_the_best(patience, epochs):
    run = Run(patience=patience, judge=lambda epoch: abs(epoch - 3)).train()
    assert len(run.history) == epochs


def test_what_happens_after_an_epoch_belongs_to_its_state():
    run = Run()

    def repair(epoch, generator):
        with torch.no_grad():
            run.model[1].weight.fill_(epoch)
        return {"error": abs(epoch - 2)}

    run.train(epochs=3, after_epoch=repair)
    assert (run.weight == 2.0).all()


def test_the_seed_alone_decides_and_the_global_generator_stays():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = Run().train(), Run().train(), Run().train(seed=2)
    np.testing.assert_array_equal(first.weight, again.weight)
    assert first.history == again.history != other.history
    torch.manual_seed(5)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("stop_after", [1, 3, 6])
def test_interrupted_and_continued_it_has_the_bits_of_one_run(tmp_path, stop_after):
    def judge(epoch):
        return abs(epoch - 2)

    whole = Run(judge=judge).train()
    path = tmp_path / "fit.safetensors"
    with pytest.raises(KeyboardInterrupt):
        Run(judge=judge, stop_after=stop_after).train(checkpoint=path)
    assert path.exists() == (stop_after > 1)
    continued = Run(judge=judge).train(checkpoint=path)
    assert len(continued.states) == 7 - stop_after
    np.testing.assert_array_equal(continued.weight, whole.weight)
    assert continued.history == whole.history


def test_a_finished_run_is_not_repeated(tmp_path):
    run = Run().train(checkpoint=tmp_path / "fit")
    again = Run().train(checkpoint=tmp_path / "fit")
    assert again.batches == [] and again.history == run.history
    np.testing.assert_array_equal(again.weight, run.weight)


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    Run().train(checkpoint=tmp_path / "fit", fingerprint={"items": (50, 3)})
    Run().train(checkpoint=tmp_path / "fit", fingerprint={"items": [50, 3]})
    with pytest.raises(
        FormatError, match=r"belongs to another fit: expected items=\[51, 3\], got \[50, 3\]\. Fit with"
    ):
        Run().train(checkpoint=tmp_path / "fit", fingerprint={"items": (51, 3)})
    with pytest.raises(FormatError, match=r"expected seed=2, got 1\. Fit with the same parameters"):
        Run().train(checkpoint=tmp_path / "fit", fingerprint={"items": (50, 3)}, seed=2)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    write_tensors(tmp_path / "other", {"x": np.zeros(3)})
    with pytest.raises(
        FormatError, match="is not a checkpoint: expected a file that a fit wrote, got another safetensors"
    ):
        Run().train(checkpoint=tmp_path / "other")
    (tmp_path / "cut").write_bytes(b"1234")
    with pytest.raises(FormatError, match="is damaged: expected a complete file"):
        Run().train(checkpoint=tmp_path / "cut")


def test_a_checkpoint_with_a_turned_bit_is_refused(tmp_path):
    Run().train(checkpoint=tmp_path / "fit")
    data = bytearray((tmp_path / "fit").read_bytes())
    data[-3] ^= 16
    (tmp_path / "fit").write_bytes(data)
    with pytest.raises(FormatError, match=r"is not as it was written: expected checksum .* It was damaged: delete it"):
        Run().train(checkpoint=tmp_path / "fit")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("history", "[" * 100_000),
        ("history", '{"epoch": 1}'),
        ("history", '[{"epoch": 2}]'),
        ("history", '[{"epoch": 1, "error": "x"}]'),
        ("history", None),
        ("fingerprint", "[3]"),
        ("model.1.weight", None),
        ("best.1.weight", np.zeros((3, 1), np.float32)),
        ("optimizer.0.exp_avg", None),
        ("optimizer.-1.step", np.float32(1)),
        ("optimizer.9.step", np.float32(1)),
        ("other.x", np.zeros(3)),
    ],
)
def test_a_forged_checkpoint_is_refused(tmp_path, name, value):
    with pytest.raises(KeyboardInterrupt):
        Run(stop_after=3).train(checkpoint=tmp_path / "fit")
    arrays, plain = read_tensors(tmp_path / "fit")
    del plain["checksum"]
    part = plain if name in plain else arrays
    part.pop(name, None)
    part |= {} if value is None else {name: value}
    write_tensors(tmp_path / "fit", arrays, metadata=plain | {"checksum": checksum_of(plain, arrays)})
    with pytest.raises(FormatError, match="is not a checkpoint of this fit: expected its weights and history, got "):
        Run().train(checkpoint=tmp_path / "fit")


def test_divergence_is_an_error():
    run = Run()
    run.step = lambda rows: {"loss": run.model[1].weight.sum() * float("nan")}
    with pytest.raises(
        InvalidValueError, match=r"training diverged: expected a finite loss, got nan in epoch 1\. Lower"
    ):
        run.train()


def test_gradients_are_clipped():
    run = Run(clip_norm=1e-6, learning_rate=0.0)
    run.train(epochs=1)
    norm = sum(float((each.grad**2).sum()) for each in run.model.parameters()) ** 0.5
    assert norm == pytest.approx(1e-6, rel=1e-3)


def test_the_learning_rate_rises_and_falls():
    options = Training(learning_rate=1.0, rise=0.2)
    rates = [learning_rate(step, 10, options) for step in range(10)]
    np.testing.assert_allclose(rates, [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    constant = Training(learning_rate=1.0, rise=0.0, schedule="constant")
    assert {learning_rate(step, 10, constant) for step in range(10)} == {1.0}


def test_before_epoch_is_told_the_number():
    seen = []
    Run().train(epochs=2, before_epoch=seen.append)
    assert seen == [1, 2]


def test_devices_are_picked_or_refused():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("cuda:99", "abacus"):
        with pytest.raises(
            InvalidValueError, match=rf"device cannot be used: expected .*, got '{name}' .* Use 'auto'\."
        ):
            pick_device(name)
