"""The training loop: validation on the way, an end when it gains no more, the best model kept, Ctrl-C at any time."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .backbone import Backbone
from .checkpoint import TrainingState, load_checkpoint, save_checkpoint
from .dataset import History
from .language import Language
from .presets import Recipe

__all__ = ["TrainingInterrupted", "learning_rate", "out_of_patience", "train"]


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C came during training, and the checkpoint has been written."""


def learning_rate(step: int, recipe: Recipe) -> float:
    """Return the rate of a step (0-based): linear warm-up, then constant, or ``0.03 + 0.97 (1 + cos(pi t)) / 2``."""
    peak = recipe.learning_rate * min(1.0, (step + 1) / max(1, recipe.n_warmup))
    if recipe.schedule == "constant":
        return peak
    return peak * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / recipe.n_steps)))


def out_of_patience(state: TrainingState, recipe: Recipe) -> bool:
    """Tell whether the last `recipe.patience` validations were no better than the best, by their mean NDCG@10."""
    since_best = sum(validation["step"] > state.best_step for validation in state.validations)
    return recipe.patience is not None and since_best >= recipe.patience


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
    """Train the model, going on from `checkpoint` where it exists, and leave the best weights in the model.

    Parameters
    ----------
    backbone : Backbone
    model : PreTrainedModel
        Changed in place.
    histories : sequence of History
        Only their training events are targets.
    language : Language
    seed : int
        Of the samples; epoch e draws from the generator of (seed, e).
    checkpoint : Path
        Written after each validation and on Ctrl-C.
    validate : callable
        Returns NDCG@10 per task for the model as it is.

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


def _update_average(state: TrainingState, model: Any, *, decay: float) -> None:
    """Move the average: ``a <- a + (1 - d) (w - a)`` with ``d = min(decay, (1 + step) / (10 + step))``.

    The early steps count little: with a fixed decay, the random start would be in the average for long.
    """
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for name, weight in model.named_parameters():
        if name not in state.average:
            state.average[name] = weight.detach().clone()
        state.average[name].lerp_(weight.detach(), 1 - decay)


@contextmanager
def _averaged(state: TrainingState, model: Any) -> Iterator[None]:
    """Put the average in the place of the weights, where there is one."""
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    model.load_state_dict(state.average, strict=False)
    try:
        yield
    finally:
        model.load_state_dict(weights, strict=False)


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
