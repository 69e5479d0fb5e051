"""What a run is asked for: the command line as one object, checked, and the folder that it names."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from semid.errors import InvalidValueError

from .alignment import check_training_tasks
from .dataset import Dataset
from .hf_trainer import check_accelerate, train_hf
from .presets import BackboneName, Recipe, recipe_for
from .recent import check_history
from .rivals import check_implicit
from .soft import check_inputs
from .training import train

__all__ = ["BASELINES", "EVALUATIONS", "TRAINERS", "Options", "check_device", "check_options", "default_folder"]

BASELINES = ("floors", "all")
EVALUATIONS = ("full", "candidates", "both")
TRAINERS = {"own": train, "hf": train_hf}


@final
@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for; see ``--help``. The words for what is measured stand in the tuples above."""

    data: Path | None
    preset: str
    backbone: BackboneName
    recipe: Recipe
    seed: int
    out: Path | None
    resume: bool
    device: str
    evaluation: str = "full"
    decoder: str = "semid"
    baselines: str = "floors"
    trainer: str = "own"


def check_options(options: Options) -> None:
    """Raise if switches do not go together, or need a package that is not there.

    Raises
    ------
    InvalidValueError, OptionalDependencyError
    """
    check_history(options.recipe, options.backbone)
    check_training_tasks(options.recipe, options.backbone)
    check_inputs(options.recipe, options.backbone)
    if options.baselines == "all":
        check_implicit()
    if options.trainer == "hf":
        check_accelerate()


def check_device(name: str) -> torch.device:
    """Return the device, "auto" being the GPU where there is one; refuse one that is not there."""
    if name == "auto":
        # Of several processes, each has the GPU of its number on its machine.
        own = f":{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else ""
        return torch.device(f"cuda{own}" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises both: unknown names, builds without CUDA
        raise InvalidValueError(
            f"--device cannot be used: expected auto, cpu or a GPU that torch sees, got {name!r} "
            f"({str(error).splitlines()[0]}). Leave it out."
        ) from error
    return device


def default_folder(dataset: Dataset, options: Options) -> Path:
    """Return where a run without --out writes."""
    plain, recipe = recipe_for(options.preset, options.backbone), options.recipe
    # What is as the preset has it is not told.
    switches = [
        f"{prefix}{value}"
        for prefix, value, usual in (
            ("", recipe.tasks, plain.tasks),
            ("", recipe.training_tasks, plain.training_tasks),
            ("", recipe.history, plain.history),
            ("recent", recipe.n_recent, plain.n_recent),
            ("", recipe.policy, plain.policy),
            ("beams", recipe.num_beams, plain.num_beams),
            ("", recipe.normalize, plain.normalize),
            ("steps", recipe.n_steps, plain.n_steps),
            ("", recipe.schedule, plain.schedule),
            ("smoothing", recipe.label_smoothing, plain.label_smoothing),
            ("", recipe.inputs, plain.inputs),
            ("within-", recipe.search_within, plain.search_within),
            ("by-", recipe.search_by, plain.search_by),
            ("", options.evaluation, "full"),
            ("", options.decoder, "semid"),
            ("trainer-", options.trainer, "own"),
        )
        if value != usual
    ]
    parts = (dataset.name, options.preset, options.backbone, recipe.identifier, *switches, f"seed{options.seed}")
    return Path("runs") / "-".join(parts)
