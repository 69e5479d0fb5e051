"""A checkpoint restores everything, and a damaged one is refused."""

import pytest
import torch
from gensar.checkpoint import TrainingState, load_checkpoint, save_checkpoint

from semid.errors import FormatError


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
