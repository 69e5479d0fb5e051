"""The training loop: batches, learning rate, best checkpoint, early stop, and a file to continue from."""

import copy
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from semid._arrays import Array, Rows
from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.io.persistence import checksum_of, read_tensors, to_json, write_tensors
from semid.quantizers.networks.options import Training

__all__ = ["Record", "Trainer", "pick_device", "plain_torch", "train"]

Record = dict[str, float]


@contextmanager
def plain_torch() -> Iterator[None]:
    """Train as in a fresh process, whatever the gradients, inference mode, autocast, default dtype or device are.

    The default dtype belongs to the process: threads that make tensors at the same time see float32.
    """
    dtype, cast = torch.get_default_dtype(), torch.is_autocast_enabled("cpu")
    torch.set_default_dtype(torch.float32)
    # Not by a context of its own: within one, copies of weights in bfloat16 would be kept from step to step.
    torch.set_autocast_enabled("cpu", False)
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_autocast_enabled("cpu", cast)


def pick_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is a CUDA device if there is one.

    Raises
    ------
    InvalidValueError
        If there is no such device.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InvalidValueError(
            f"device cannot be used: expected 'auto', 'cpu' or a device of this machine, got {name!r} ({reason}). Use "
            "'auto'."
        ) from error
    return device


def train(
    model: nn.Module,
    step: Callable[[Rows], dict[str, Tensor]],
    n_items: int,
    *,
    options: Training,
    epochs: int,
    criterion: str,
    seed: int,
    before_epoch: Callable[[int], None] | None = None,
    after_epoch: Callable[[int, torch.Generator], Mapping[str, float]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> list[Record]:
    """Train a network in place and leave it with the state of its best epoch.

    All randomness of an epoch comes from the seed and its number, so a run that is continued from its file ends with
    the bits of one that was never interrupted.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters with gradients are trained; its whole state is kept and restored.
    step : callable
        Takes row numbers of a batch, shape (batch,), and returns scalars of one forward pass; "loss" is minimised, the
        means of all go into the history.
    n_items : int
    options : Training
    epochs : int
        Passes over the items; the learning rate is planned over all of them.
    criterion : str
        Entry of an epoch's record whose least value marks the best state. Epochs without it cannot be the best and do
        not count for the early stop.
    seed : int
    before_epoch : callable, optional
        Takes the number of the epoch, from 1.
    after_epoch : callable, optional
        Takes the number of the epoch and a generator, with the model in evaluation mode; returns more entries of the
        record. What it changes in the model belongs to the epoch's state, so it must change before it judges.
    checkpoint : path-like, optional
        A safetensors file, written after every epoch; if it exists, training continues from it.
    fingerprint : mapping of JSON values, optional
        What a file must agree with to be continued.
    progress : bool, default=False
        Show a bar over the epochs, on a terminal only.

    Returns
    -------
    history : list of dict
        Per epoch its number, the learning rate at its end, the mean of each scalar of `step`, and what `after_epoch`
        returned.

    Raises
    ------
    InvalidValueError
        If the loss is not finite.
    InvalidTypeError
        If `checkpoint` is no path.
    FormatError
        If the file is damaged or belongs to another training run.
    """
    if not isinstance(checkpoint, str | os.PathLike | None):
        raise InvalidTypeError(
            f"checkpoint has a wrong type: expected the path of a file, got {checkpoint!r}. Pass a str or Path."
        )
    run = _Run(model, options, criterion, {"epochs": epochs, "seed": seed} | dict(fingerprint or {}))
    if checkpoint is not None and Path(checkpoint).exists():
        run.load(checkpoint)
    n_batches = math.ceil(n_items / options.batch_size)
    n_steps = epochs * n_batches
    cuda_devices = sorted({each.device.index or 0 for each in model.parameters() if each.is_cuda})
    with (
        tqdm(total=epochs, initial=len(run.history), desc="epochs", disable=None if progress else True) as bar,
        torch.random.fork_rng(devices=cuda_devices),
    ):
        while len(run.history) < epochs and not run.exhausted:
            epoch = len(run.history) + 1
            if before_epoch is not None:
                before_epoch(epoch)
            torch.manual_seed(_epoch_seed(seed, epoch))  # of dropout
            shuffled = np.random.default_rng((seed, epoch)).permutation(n_items)
            model.train()
            totals: dict[str, Tensor] = {}
            for number in range(n_batches):
                rows = shuffled[number * options.batch_size : (number + 1) * options.batch_size]
                rate = learning_rate((epoch - 1) * n_batches + number, n_steps, options)
                for name, value in run.trainer.take_step(partial(step, rows), rate).items():
                    totals[name] = totals.get(name, 0.0) + value.detach() * len(rows)
            record: Record = {"epoch": epoch, "learning_rate": rate}
            record |= {name: float(total) / n_items for name, total in totals.items()}
            if not math.isfinite(record["loss"]):
                raise InvalidValueError(
                    f"training diverged: expected a finite loss, got {record['loss']} in epoch {epoch}. Lower the "
                    "learning_rate."
                )
            model.eval()
            if after_epoch is not None:
                record |= after_epoch(epoch, torch.Generator().manual_seed(_epoch_seed(seed, epoch)))
            state = copy.deepcopy(model.state_dict())
            run.finish_epoch(record, state)
            if checkpoint is not None:
                run.save(checkpoint)
            bar.update()
            if criterion in record:
                bar.set_postfix({criterion: f"{record[criterion]:.4g}"})
    run.restore_best()
    model.eval()
    return run.history


def learning_rate(step: int, n_steps: int, options: Training) -> float:
    """Return the learning rate of a step, from 0: a linear rise, then a linear fall or none."""
    rising = round(options.rise * n_steps)
    if step < rising:
        return options.learning_rate * (step + 1) / rising
    if options.schedule == "constant":
        return options.learning_rate
    return options.learning_rate * (n_steps - step) / (n_steps - rising)


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


@final
class Trainer:
    """An optimizer and the step it takes.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters with gradients are trained.
    options : Training
    """

    def __init__(self, model: nn.Module, options: Training) -> None:
        self.clip_norm = options.clip_norm
        self.trained = [each for each in model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, weight_decay=options.weight_decay, fused=True)

    def take_step(self, forward: Callable[[], dict[str, Tensor]], rate: float) -> dict[str, Tensor]:
        """Move the parameters against the gradient of "loss" at a learning rate; returns what `forward` did."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        terms = forward()
        torch.autograd.backward(terms["loss"])
        torch.nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
        self.optimizer.step()
        return terms


@final
class _Run:
    """What a training run knows between epochs, and its file."""

    def __init__(self, model: nn.Module, options: Training, criterion: str, fingerprint: Mapping[str, Any]) -> None:
        self.model, self.patience, self.criterion = model, options.patience, criterion
        # As a file would return it: tuples become lists.
        self.fingerprint = json.loads(to_json(fingerprint))
        self.trainer = Trainer(model, options)
        self.history: list[Record] = []
        self.best_state: dict[str, Tensor] = {}

    @property
    def exhausted(self) -> bool:
        """Whether the last `patience` judged epochs were no better than one before them."""
        values = [record[self.criterion] for record in self.history if self.criterion in record]
        return 0 < self.patience < len(values) - values.index(min(values)) if values else False

    def finish_epoch(self, record: Record, state: dict[str, Tensor]) -> None:
        """Note an epoch, and keep its state if it is the best."""
        earlier = [each[self.criterion] for each in self.history if self.criterion in each]
        self.history.append(record)
        if self.criterion in record and record[self.criterion] < min(earlier, default=math.inf):
            self.best_state = state

    def restore_best(self) -> None:
        """Go back to the best epoch, if one was judged."""
        if self.best_state:
            self.model.load_state_dict(self.best_state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything that the next epoch needs, whole or not at all."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best_state.items()}
        for number, state in self.trainer.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        plain = {"fingerprint": json.dumps(self.fingerprint), "history": json.dumps(self.history)}
        write_tensors(path, arrays, metadata=plain | {"checksum": checksum_of(plain, arrays)})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a file."""
        arrays, metadata = read_tensors(path)
        checksum = metadata.pop("checksum", None)
        if checksum is None:
            raise FormatError(
                f"{path} is not a checkpoint: expected a file that a fit wrote, got another safetensors file. Choose "
                "another name."
            )
        if checksum_of(metadata, arrays) != checksum:
            raise FormatError(
                f"{path} is not as it was written: expected checksum {checksum}, got another. It was damaged: delete "
                "it, and the fit begins anew."
            )
        try:
            self._check_fingerprint(path, json.loads(metadata["fingerprint"]))
            self._restore(arrays, json.loads(metadata["history"]))
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(
                f"{path} is not a checkpoint of this fit: expected its weights and history, got "
                f"{type(error).__name__}: {str(error)[:200]}. Delete it, and the fit begins anew."
            ) from error

    def _check_fingerprint(self, path: str | os.PathLike[str], fingerprint: Any) -> None:
        for key in sorted(self.fingerprint.keys() | fingerprint.keys()):
            expected, got = self.fingerprint.get(key), fingerprint.get(key)
            if expected != got:
                raise FormatError(
                    f"{path} belongs to another fit: expected {key}={expected!r}, got {got!r}. Fit with the same "
                    "parameters and items, or choose another name."
                )

    def _restore(self, arrays: Mapping[str, Array], history: Any) -> None:
        """Take over weights and history; an error of any kind if they do not fit."""
        if not isinstance(history, list) or [record["epoch"] for record in history] != [*range(1, len(history) + 1)]:
            raise ValueError("a history that is not one record per epoch")
        if not all(isinstance(value, int | float) for record in history for value in record.values()):
            raise ValueError("a history that is not of numbers")
        tensors: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, array in arrays.items():
            kind, _, rest = name.partition(".")
            tensors[kind][rest] = torch.from_numpy(array)
        self.model.load_state_dict(tensors["model"])
        device = next(self.model.parameters()).device
        self.best_state = {name: tensor.to(device) for name, tensor in tensors["best"].items()}
        if self.best_state and _shapes(self.best_state) != _shapes(self.model.state_dict()):
            raise ValueError("best weights of another model")
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors["optimizer"].items():
            number, _, entry = name.partition(".")
            state.setdefault(int(number), {})[entry] = tensor
        for place, entries in state.items():
            shape = self.trainer.trained[place].shape
            if place < 0 or _shapes(entries) != {"step": (), "exp_avg": shape, "exp_avg_sq": shape}:
                raise ValueError("an optimizer of other weights")
        self.trainer.optimizer.load_state_dict(
            {"state": state, "param_groups": self.trainer.optimizer.state_dict()["param_groups"]}
        )
        self.history = history


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
