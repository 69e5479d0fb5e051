"""The training loop: it validates on the way, stops when nothing is gained, keeps the best model, and survives Ctrl-C.

An uninterrupted run and a resumed one give the same numbers: everything random is either derived from (seed, epoch), or
stored in the checkpoint, as the state of torch's generator is, which draws the dropout.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, final

import numpy as np
import torch
from tqdm import tqdm

from semid.errors import FormatError

from .dataset import History
from .files import write_whole
from .language import Language
from .models import Backbone
from .presets import Recipe

__all__ = [
    "TrainingInterrupted",
    "TrainingState",
    "learning_rate",
    "load_checkpoint",
    "out_of_patience",
    "save_checkpoint",
    "train",
]


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C came during training, and the checkpoint has been written."""


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
        The moving average of the weights; empty if the recipe has none.
    seconds, cpu_seconds : float
        Wall time of training without validation, and CPU time of all threads.
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


def train(
    backbone: Backbone,
    model: Any,
    histories: Sequence[History],
    language: Language,
    *,
    seed: int,
    checkpoint: Path,
    validate: Callable[[], Mapping[str, float]],
) -> TrainingState:
    """Train the model, continuing from `checkpoint` if it exists, and leave the best weights in the model.

    Parameters
    ----------
    backbone : Backbone
    model : PreTrainedModel
        Changed in place.
    histories : sequence of History
        Only their training events are targets.
    language : Language
    seed : int
        Of the samples; epoch e draws from a generator seeded with (seed, e).
    checkpoint : Path
        Written after each validation and on Ctrl-C.
    validate : callable
        Returns NDCG@10 per task for the present model.

    Raises
    ------
    TrainingInterrupted
        After Ctrl-C, with the checkpoint written.
    """
    recipe = backbone.recipe
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    state = TrainingState()
    if checkpoint.exists():
        state = load_checkpoint(checkpoint, model=model, optimizer=optimizer)
    validation_steps = {round(recipe.n_steps * (i + 1) / recipe.n_validations) for i in range(recipe.n_validations)}
    bar = tqdm(total=recipe.n_steps, initial=state.step, desc="train", unit="step", disable=None)
    with bar, _ctrl_c_noted() as ctrl_c:
        while state.step < recipe.n_steps and not out_of_patience(state, recipe):
            rng = np.random.default_rng([seed, state.epoch])
            batches = backbone.epoch(histories, language, rng)
            while state.batch < len(batches) and state.step < recipe.n_steps and not out_of_patience(state, recipe):
                begin, cpu_begin = time.perf_counter(), time.process_time()
                batch = backbone.collate(batches[state.batch], pad=language.tokenizer.pad_token_id)
                state.losses.append(_step(backbone, model, optimizer, batch, rate=learning_rate(state.step, recipe)))
                state.step, state.batch = state.step + 1, state.batch + 1
                if recipe.average:
                    _update_average(state, model, decay=recipe.average)
                state.seconds += time.perf_counter() - begin
                state.cpu_seconds += time.process_time() - cpu_begin
                bar.update()
                bar.set_postfix(loss=f"{np.mean(state.losses[-50:]):.3f}", refresh=False)
                if state.step in validation_steps:
                    with _averaged(state, model):
                        _validate(state, model, validate)
                    save_checkpoint(checkpoint, state, model=model, optimizer=optimizer)
                if ctrl_c:
                    save_checkpoint(checkpoint, state, model=model, optimizer=optimizer)
                    raise TrainingInterrupted
            state.epoch, state.batch = state.epoch + 1, 0
    model.load_state_dict(state.best_weights)
    model.eval()
    return state


def _step(
    backbone: Backbone, model: Any, optimizer: torch.optim.Optimizer, batch: Mapping[str, torch.Tensor], *, rate: float
) -> float:
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = backbone.loss(model, {name: tensor.to(model.device) for name, tensor in batch.items()})
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def learning_rate(step: int, recipe: Recipe) -> float:
    """Return the rate of a step (0-based): linear warm-up, then constant, or ``0.03 + 0.97 (1 + cos(pi t)) / 2``."""
    peak = recipe.learning_rate * min(1.0, (step + 1) / max(1, recipe.n_warmup))
    if recipe.schedule == "constant":
        return peak
    return peak * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / recipe.n_steps)))


def out_of_patience(state: TrainingState, recipe: Recipe) -> bool:
    """Tell whether the last `recipe.patience` validations did not improve the best mean NDCG@10."""
    since_best = sum(validation["step"] > state.best_step for validation in state.validations)
    return recipe.patience is not None and since_best >= recipe.patience


def _validate(state: TrainingState, model: Any, validate: Callable[[], Mapping[str, float]]) -> None:
    model.eval()
    begin = time.perf_counter()
    ndcg = validate()
    state.validation_seconds += time.perf_counter() - begin
    state.validations.append({"step": state.step, **ndcg})
    score = float(np.mean(list(ndcg.values())))
    if score > state.best_score:
        state.best_score, state.best_step = score, state.step
        state.best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _update_average(state: TrainingState, model: Any, *, decay: float) -> None:
    """Move the average: ``a <- a + (1 - d) (w - a)`` with ``d = min(decay, (1 + step) / (10 + step))``.

    The early steps weigh little: with a fixed decay, the random start would stay in the average for long.
    """
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for name, weight in model.named_parameters():
        if name not in state.average:
            state.average[name] = weight.detach().clone()
        state.average[name].lerp_(weight.detach(), 1 - decay)


@contextmanager
def _averaged(state: TrainingState, model: Any) -> Iterator[None]:
    """Replace the weights by their average for the block, if there is one."""
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model.load_state_dict(state.average, strict=False)
    try:
        yield
    finally:
        model.load_state_dict(weights, strict=False)


@contextmanager
def _ctrl_c_noted() -> Iterator[list[bool]]:
    """Note the first Ctrl-C instead of raising: an exception inside an optimizer step would leave it half done."""
    noted: list[bool] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(True)
        signal.signal(signal.SIGINT, previous)  # a second Ctrl-C ends the program at once

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, previous)


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
    """Read the state, and restore model, optimizer and random generators.

    Raises
    ------
    FormatError
        If the file is damaged or belongs to another model.
    """
    try:
        # weights_only: tensors and plain containers, so that loading a file runs no code. To the CPU, where the states
        # of the random generators must be; load_state_dict moves the rest.
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
