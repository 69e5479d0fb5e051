"""Search and recommendation by one model that generates semantic IDs, from raw data to a table; after GenSAR.

    python examples/gensar_end_to_end.py                       # MovieLens-100K, 5 to 10 minutes on two cores
    python examples/gensar_end_to_end.py --preset tiny         # the same line in a minute, to see it work
    python examples/gensar_end_to_end.py --data FOLDER --backbone t5

GenSAR is arXiv 2504.05730. The parts are the modules of the folder gensar, in the order of `gensar.run.run`.
"""

import os

# Idle OpenMP threads spin by default. On a busy two-core machine each of them takes a core from a thread that has work:
# a training step went from 120 samples a second to 12. It counts only before torch and NumPy load their OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from gensar.alignment import TRAINING_TASKS
from gensar.decoding import DECODERS
from gensar.evaluation import LIST_LENGTH
from gensar.identifiers import IDENTIFIERS, POLICIES
from gensar.options import BASELINES, EVALUATIONS, TRAINERS, Options
from gensar.presets import (
    BACKBONES,
    COLLABORATIVE,
    INPUTS,
    NORMALIZERS,
    PRESETS,
    SCHEDULES,
    SCOPES,
    SEARCH_BY,
    TASKS,
    Recipe,
    only_tasks,
    recipe_for,
)
from gensar.recent import HISTORIES
from gensar.run import run
from gensar.training import TrainingInterrupted

from semid.errors import SemidError


def main(arguments: list[str] | None = None) -> int:
    """Run the example; 0 when it went through, 1 for bad input, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder in the neutral format or with RecBole atomic files")
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--backbone", choices=BACKBONES, default="causal")
    parser.add_argument(
        "--collaborative", choices=COLLABORATIVE, help="what the collaborative view is (default: the preset's)"
    )
    parser.add_argument("--identifier", choices=IDENTIFIERS, help="how the IDs are made (default: the preset's)")
    parser.add_argument("--tasks", choices=TASKS, default="both", help="train and evaluate one task alone")
    parser.add_argument("--training-tasks", choices=TRAINING_TASKS, default="two", help="six: the paper's; t5 only")
    parser.add_argument("--policy", choices=POLICIES, default="nearest", help="how IDs are made unique")
    parser.add_argument(
        "--history", choices=HISTORIES, default="strict", help="published: as in GenSAR's code; t5 only"
    )
    parser.add_argument("--recent", type=int, metavar="N", help="prompts tell the last N events of each form; t5 only")
    parser.add_argument("--inputs", choices=INPUTS, help="soft: text and item embeddings added; default: the preset's")
    parser.add_argument("--search-within", choices=SCOPES, help="what a search may find (default: the preset's)")
    parser.add_argument(
        "--search-by", choices=SEARCH_BY, help="how items of a query are ranked (default: the preset's)"
    )
    parser.add_argument("--evaluation", choices=EVALUATIONS, default="full", help="candidates: the paper's 1 + 99")
    parser.add_argument("--decoder", choices=DECODERS, default="semid", help="hf: the beam search of transformers")
    parser.add_argument(
        "--baselines", choices=BASELINES, default="floors", help="all: Markov chain, ALS, SASRec, dense"
    )
    parser.add_argument("--trainer", choices=TRAINERS, default="own", help="hf: the Trainer of transformers")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="optimizer steps of the training (default: the preset's)"
    )
    parser.add_argument(
        "--patience", type=int, metavar="N", help="stop after N validations without a gain (default: the preset's)"
    )
    parser.add_argument("--schedule", choices=SCHEDULES, default="cosine", help="learning rate after the warm-up")
    parser.add_argument(
        "--label-smoothing", type=float, metavar="S", help="share of a target that is spread (default: the preset's)"
    )
    parser.add_argument("--beams", type=int, metavar="N", help="beams of the full catalogue (default: the preset's)")
    parser.add_argument("--normalize", choices=NORMALIZERS, default="full", help="see semid.generate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/DATA-...-seedSEED)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, if there is one")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    asked = parser.parse_args(arguments)
    if asked.beams is not None and asked.beams < LIST_LENGTH:
        parser.error(f"--beams is too small: expected {LIST_LENGTH} or more, the length of a list, got {asked.beams}.")
    if asked.steps is not None and asked.steps < 1:
        parser.error(f"--steps is too small: expected at least 1, got {asked.steps}.")
    if asked.patience is not None and asked.patience < 1:
        parser.error(f"--patience is too small: expected at least 1, got {asked.patience}.")
    if asked.label_smoothing is not None and not 0 <= asked.label_smoothing < 1:
        parser.error(f"--label-smoothing is no share: expected 0 or more, below 1, got {asked.label_smoothing}.")
    if asked.seed < 0:
        parser.error(f"--seed is negative: expected 0 or more, got {asked.seed}.")
    try:
        run(
            Options(
                data=asked.data, preset=asked.preset, backbone=asked.backbone, recipe=_recipe(asked), seed=asked.seed,
                out=asked.out, resume=asked.resume, device=asked.device, evaluation=asked.evaluation,
                decoder=asked.decoder, baselines=asked.baselines, trainer=asked.trainer,
            )
        )  # fmt: skip
    except KeyboardInterrupt as stopped:
        kept = "the checkpoint is written" if isinstance(stopped, TrainingInterrupted) else "what was finished is kept"
        print(f"\ninterrupted; {kept}. Go on with the same command and --resume.", file=sys.stderr)
        return 130
    except (SemidError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


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
        average=0.0 if asked.trainer == "hf" else recipe.average,
        num_beams=recipe.num_beams if asked.beams is None else asked.beams,
        inputs=asked.inputs or recipe.inputs,
        search_within=asked.search_within or recipe.search_within,
        search_by=asked.search_by or recipe.search_by,
    )


if __name__ == "__main__":
    sys.exit(main())
