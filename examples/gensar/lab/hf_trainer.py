"""The same training by transformers' Trainer, with its launchers, bf16 on a GPU, and its checkpoints; --trainer hf.

    cd examples && accelerate launch --num_processes 4 -m gensar.lab.run --trainer hf --preset paper ..

Every process draws the same epochs and takes its share of their batches, so a step of four processes is four batches.
Batches, optimizer and rates are those of `training`: without dropout, one process finds the same losses. A checkpoint
is written at each validation, and a run that was stopped continues from the last of them. The loop of `training` also
keeps the steps after it at Ctrl-C, and can keep a moving average of the weights; this one does neither.
"""

import functools
import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import EarlyStoppingCallback, PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint

from semid.errors import OptionalDependencyError

from ..dataset import History
from ..language import Language
from ..models import Backbone
from ..options import Options, default_folder
from ..output import RunFolder, Stopwatch
from ..run import Choices, fit, prepare, read_data
from ..training import TrainingState, learning_rate

__all__ = ["adapt", "check_accelerate", "help_training", "is_main_process", "train_hf"]


def check_accelerate() -> None:
    """Raise OptionalDependencyError if accelerate is not installed: the Trainer cannot do without it."""
    try:
        importlib.import_module("accelerate")
    except ImportError as error:
        raise OptionalDependencyError(
            f"cannot import accelerate: expected it for --trainer hf, got {error}. Run pip install accelerate."
        ) from error


def adapt(options: Options) -> Options:
    """Return the options for this trainer: without a moving average and, of several GPUs, with that of this process."""
    device = options.device
    if device == "auto" and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    return replace(options, device=device, recipe=replace(options.recipe, average=0.0))


def is_main_process() -> bool:
    """Tell whether this process is the only one, or the first of those that accelerate or torchrun has launched."""
    return os.environ.get("RANK", "0") == "0"


def help_training(options: Options, choices: Choices) -> None:
    """Do the part of a process that is not the main one: train with the others, and write nothing of the run."""
    watch = Stopwatch()
    dataset = read_data(options, choices, watch)
    folder = RunFolder(options.out or default_folder(dataset, options))
    if not folder.results.is_file():
        fit(prepare(dataset, options, choices, watch), options, choices, checkpoint=folder.checkpoint)


def train_hf(
    backbone: Backbone,
    model: Any,
    histories: Sequence[History],
    language: Language,
    *,
    seed: int,
    checkpoint: Path,
    validate: Callable[[], Mapping[str, float]],
) -> TrainingState:
    """Do what `training.train` does, with the same arguments; the Trainer's folder is beside `checkpoint`.

    Returns
    -------
    state : TrainingState
        Without `best_weights`, which are in the model; `seconds` includes the validations, and covers this call only.
    """
    recipe = backbone.recipe
    folder = checkpoint.parent / "trainer"
    on_gpu = model.device.type == "cuda"
    every = max(1, recipe.n_steps // recipe.n_validations)
    arguments = TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        max_steps=recipe.n_steps,
        per_device_train_batch_size=1,  # an element of the data is a whole batch
        max_grad_norm=1.0,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="ndcg",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,  # how much patience is left
        logging_steps=1,
        # Each process draws for itself: batches differ in size, and could not be cut out of one.
        accelerator_config={"dispatch_batches": False},
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = _Trainer(model, arguments, backbone, validate, _Epochs(backbone, histories, language, seed), language)
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None  # type: ignore[no-untyped-call]
    with _forward_learns(model, backbone):
        found = trainer.train(resume_from_checkpoint=last)
    model.eval()
    logged = trainer.state.log_history
    validations = [
        {"step": entry["step"], **{key.removeprefix("eval_ndcg_"): entry[key] for key in entry if "_ndcg_" in key}}
        for entry in logged
        if "eval_ndcg" in entry
    ]
    return TrainingState(
        step=trainer.state.global_step,
        losses=[entry["loss"] for entry in logged if "loss" in entry],
        validations=validations,
        best_score=float(trainer.state.best_metric or 0.0),
        best_step=int(trainer.state.best_global_step or 0),
        seconds=float(found.metrics.get("train_runtime", 0.0)),
    )


@contextmanager
def _forward_learns(model: Any, backbone: Backbone) -> Iterator[None]:
    """Let ``model(learn=batch)`` return the loss: torch's wrapper for several processes calls only `forward`."""
    plain = model.forward

    @functools.wraps(plain)  # generation inspects the arguments of forward
    def forward(*arguments: Any, learn: Any = None, **options: Any) -> Any:
        return plain(*arguments, **options) if learn is None else backbone.loss(model, learn)

    model.forward = forward
    try:
        yield
    finally:
        del model.forward  # the class has its own


@final
class _Epochs(IterableDataset[list[Any]]):
    """All batches of all epochs, without end; epoch e draws from the generator of (seed, e), as in `training`."""

    def __init__(self, backbone: Backbone, histories: Sequence[History], language: Language, seed: int) -> None:
        self.backbone, self.histories, self.language, self.seed = backbone, histories, language, seed

    def __iter__(self) -> Iterator[list[Any]]:
        for epoch in count():
            yield from self.backbone.epoch(self.histories, self.language, np.random.default_rng([self.seed, epoch]))


@final
class _Trainer(Trainer):
    """The Trainer with our batches, our loss, and a validation that generates."""

    loss_is_scaled_for_ga = False

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        backbone: Backbone,
        validate: Callable[[], Mapping[str, float]],
        epochs: _Epochs,
        language: Language,
    ) -> None:
        pad, recipe = language.tokenizer.pad_token_id, backbone.recipe
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(step, recipe) / recipe.learning_rate
        )
        # The Trainer requires data to validate on; `evaluate` below uses its own.
        super().__init__(
            model, arguments, data_collator=lambda elements: dict(backbone.collate(elements[0], pad=pad)),
            train_dataset=epochs, eval_dataset=[], optimizers=(optimizer, schedule),
        )  # fmt: skip
        self.validate, self.own = validate, model
        # They would print every step.
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        if recipe.patience is not None:
            self.add_callback(EarlyStoppingCallback(recipe.patience))

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of the backbone: the mean over the ID tokens of the batch."""
        loss: torch.Tensor = model(learn=inputs)
        return (loss, None) if return_outputs else loss

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Return NDCG@10 of each task, and their mean by which the best model is chosen."""
        self.own.eval()
        ndcg = dict(self.validate())
        metrics = {"eval_ndcg": float(np.mean(list(ndcg.values())))}
        metrics |= {f"eval_ndcg_{task}": value for task, value in ndcg.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
