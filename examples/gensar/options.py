"""The command line: the switches of a run in groups, and what they ask for as one object."""

import argparse
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch

from semid.errors import InvalidValueError

from .dataset import Dataset
from .evaluation import LIST_LENGTH
from .identifiers import IDENTIFIERS, POLICIES
from .presets import (
    BACKBONES,
    COLLABORATIVE,
    INPUTS,
    NORMALIZERS,
    PRESETS,
    SCHEDULES,
    SCOPES,
    SEARCH_BY,
    TASKS,
    BackboneName,
    Recipe,
    only_tasks,
    recipe_for,
)

__all__ = ["Options", "check_device", "default_folder", "make_parser", "options_of"]


@final
@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for; see ``--help``.

    The last four are names in the tables of `gensar.run.Choices`, as are the recipe's identifier, history and training
    tasks. The main job has one of each; `gensar.lab.run` has more.
    """

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


def make_parser(description: str | None, *, identifiers: Collection[str] = IDENTIFIERS) -> argparse.ArgumentParser:
    """Return the parser of the main job; a program of `lab` may add switches for the names of `Options`."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s [switches]", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(
        training_tasks="two", history="strict", evaluation="full", decoder="semid", baselines="floors", trainer="own"
    )

    first = parser.add_argument_group("what a reader needs first")
    first.add_argument(
        "--data", type=Path, metavar="FOLDER",
        help="folder of plain files (items.jsonl, interactions.csv) or RecBole atomic files (default: MovieLens-100K)",
    )  # fmt: skip
    first.add_argument("--preset", choices=PRESETS, default="small", help="sizes and steps (default: small)")
    first.add_argument(
        "--backbone",
        choices=BACKBONES,
        default="causal",
        help="decoder-only model, or the paper's T5 (default: causal)",
    )
    first.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the run (default: runs/DATA-..-seedSEED)")
    first.add_argument("--resume", action="store_true", help="continue the run in the folder, if there is one")
    first.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    first.add_argument("--device", default="auto", help="auto, cpu, cuda, .. (default: auto)")

    presets = "Where no default is given, it is that of the preset."
    ids = parser.add_argument_group("what a researcher varies: identifiers", presets)
    ids.add_argument(
        "--identifier", choices=list(identifiers), metavar="NAME", help=f"how IDs are made: {', '.join(identifiers)}"
    )
    ids.add_argument(
        "--collaborative", choices=COLLABORATIVE,
        help="collaborative view of an item: co-occurrence, SASRec's item rows, or both side by side",
    )  # fmt: skip
    ids.add_argument(
        "--policy", choices=POLICIES, default="nearest",
        help="how IDs are made unique: items move to the nearest free ID, or IDs get one more level (default: nearest)",
    )  # fmt: skip

    model = parser.add_argument_group("what a researcher varies: model and training", presets)
    model.add_argument(
        "--tasks", choices=TASKS, default="both", help="train and evaluate one task alone (default: both)"
    )
    model.add_argument(
        "--inputs", choices=INPUTS, help="soft: the model also reads embeddings of texts and items; causal only"
    )
    model.add_argument(
        "--recent", type=int, metavar="N", help="prompts hold the last N interactions and N searches; t5 only"
    )
    model.add_argument("--steps", type=int, metavar="N", help="optimizer steps")
    model.add_argument("--patience", type=int, metavar="N", help="stop after N validations without a gain")
    model.add_argument(
        "--schedule", choices=SCHEDULES, default="cosine", help="learning rate after its warm-up (default: cosine)"
    )
    model.add_argument("--label-smoothing", type=float, metavar="S", help="share of a target spread over all tokens")

    search = parser.add_argument_group("what a researcher varies: decoding and search", presets)
    search.add_argument("--beams", type=int, metavar="N", help="beams over the full catalogue")
    search.add_argument(
        "--normalize", choices=NORMALIZERS, default="full",
        help="tokens over which the probabilities of a step sum to one, see semid.generate (default: full)",
    )  # fmt: skip
    search.add_argument("--search-within", choices=SCOPES, help="a search ranks the items of its query, or all items")
    search.add_argument(
        "--search-by", choices=SEARCH_BY, help="the items of a query are ranked by both tasks, or by search alone"
    )
    return parser


def options_of(parser: argparse.ArgumentParser, arguments: list[str] | None) -> Options:
    """Parse the arguments; wrong usage exits with status 2, as argparse does."""
    asked = parser.parse_args(arguments)
    if asked.beams is not None and asked.beams < LIST_LENGTH:
        parser.error(f"--beams is too small: expected at least {LIST_LENGTH}, the length of a list, got {asked.beams}.")
    if asked.steps is not None and asked.steps < 1:
        parser.error(f"--steps is too small: expected at least 1, got {asked.steps}.")
    if asked.patience is not None and asked.patience < 1:
        parser.error(f"--patience is too small: expected at least 1, got {asked.patience}.")
    if asked.label_smoothing is not None and not 0 <= asked.label_smoothing < 1:
        parser.error(f"--label-smoothing is out of range: expected 0 <= S < 1, got {asked.label_smoothing}.")
    if asked.seed < 0:
        parser.error(f"--seed is negative: expected at least 0, got {asked.seed}.")
    return Options(
        data=asked.data, preset=asked.preset, backbone=asked.backbone, recipe=_recipe(asked), seed=asked.seed,
        out=asked.out, resume=asked.resume, device=asked.device, evaluation=asked.evaluation, decoder=asked.decoder,
        baselines=asked.baselines, trainer=asked.trainer,
    )  # fmt: skip


def _recipe(asked: argparse.Namespace) -> Recipe:
    recipe = only_tasks(recipe_for(asked.preset, asked.backbone), asked.tasks)
    return replace(
        recipe,
        collaborative=asked.collaborative or recipe.collaborative,
        identifier=asked.identifier or recipe.identifier,
        training_tasks=asked.training_tasks,
        policy=asked.policy,
        history=asked.history,
        n_recent=asked.recent,
        normalize=asked.normalize,
        n_steps=asked.steps or recipe.n_steps,
        schedule=asked.schedule,
        patience=recipe.patience if asked.patience is None else asked.patience,
        label_smoothing=recipe.label_smoothing if asked.label_smoothing is None else asked.label_smoothing,
        num_beams=asked.beams or recipe.num_beams,
        inputs=asked.inputs or recipe.inputs,
        search_within=asked.search_within or recipe.search_within,
        search_by=asked.search_by or recipe.search_by,
    )


def check_device(name: str) -> torch.device:
    """Return the device, "auto" being the GPU if there is one.

    Raises
    ------
    InvalidValueError
        If torch cannot use the device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
    """Return where a run without --out writes; the name holds every switch that differs from the preset."""
    plain, recipe = recipe_for(options.preset, options.backbone), options.recipe
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
