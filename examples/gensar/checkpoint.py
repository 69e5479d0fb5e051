"""The state of a training run on disk: enough to go on as if nothing had happened.

An uninterrupted run and a resumed one give the same numbers, because everything random is either derived from (seed,
epoch) or stored: the generator of torch, which draws the dropout.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from semid.errors import FormatError

from .files import write_whole

__all__ = ["TrainingState", "load_checkpoint", "save_checkpoint"]


@final
@dataclass
class TrainingState:
    """Where training stands.

    Attributes
    ----------
    step : int
        Optimizer steps done.
    epoch, batch : int
        The next batch is number `batch` of epoch `epoch`.
    losses : list of float
        Loss of each step, nats per ID token.
    validations : list of dict
        ``{"step": int, task: NDCG@10, ...}``.
    best_score : float
        Mean NDCG@10 over the tasks of the best validation so far.
    best_step : int
    best_weights : dict of str to Tensor
        The model at that step; empty before the first validation.
    average : dict of str to Tensor
        The moving average of the weights; empty where the recipe has none.
    seconds, cpu_seconds : float
        Wall time spent in training, validation left out, and CPU time of all threads.
    validation_seconds : float
        Wall time spent in validation.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    losses: list[float] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)
    best_score: float = -1.0
    best_step: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    validation_seconds: float = 0.0


def save_checkpoint(path: Path, state: TrainingState, *, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Write the state, whole or not at all."""
    content = {
        "state": vars(state),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    write_whole(path, lambda temporary: torch.save(content, temporary))


def load_checkpoint(path: Path, *, model: Any, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Read the state and put model, optimizer and random generators where they were.

    Raises
    ------
    FormatError
        If the file is damaged or belongs to another model.
    """
    try:
        # weights_only: tensors and plain containers, so that a file from elsewhere runs no code. On the CPU, because
        # the states of the random generators must lie there; load_state_dict moves the rest.
        content = torch.load(path, weights_only=True, map_location="cpu")
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["torch_rng"])
        if content["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(content["cuda_rng"])
        state = TrainingState(**content["state"])
        state.average = {name: tensor.to(model.device) for name, tensor in state.average.items()}
        return state
    except Exception as error:  # torch raises anything from EOFError to pickle errors for a damaged file
        raise FormatError(
            f"{path} cannot be resumed: expected the checkpoint of this model, got {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no more data'}. Start again with another --out."
        ) from error
