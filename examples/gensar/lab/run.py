"""The main job with every experiment: gensar_end_to_end.py with more identifiers, protocols, baselines and trainers.

    cd examples && python -m gensar.lab.run --data FOLDER --evaluation both --baselines all
    cd examples && accelerate launch --num_processes 4 -m gensar.lab.run --trainer hf --preset paper

Without the switches of the group "experiments" it does what gensar_end_to_end.py does, and writes the same files.
"""

import os

# As in gensar_end_to_end.py, and before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import sys
from dataclasses import replace

from ..options import Options, make_parser, options_of
from ..run import MAIN, exit_status, run
from .alignment import check_training_tasks, make_reader_of_six
from .biencoder import fused_identifiers
from .candidates import both_protocols, candidates_alone
from .decoding import generate_hf
from .hf_trainer import adapt, check_accelerate, help_training, is_main_process, train_hf
from .published import check_history, published_past
from .rivals import check_implicit, floors_and_rivals

__all__ = ["LAB", "main"]

LAB = replace(
    MAIN,
    identifiers={**MAIN.identifiers, "fused-biencoder": fused_identifiers},
    histories={**MAIN.histories, "published": published_past},
    training_tasks={**MAIN.training_tasks, "six": make_reader_of_six},
    trainers={**MAIN.trainers, "hf": train_hf},
    decoders={**MAIN.decoders, "hf": generate_hf},
    baselines={**MAIN.baselines, "all": floors_and_rivals},
    evaluations={**MAIN.evaluations, "candidates": candidates_alone, "both": both_protocols},
)


def main(arguments: list[str] | None = None) -> int:
    """Run one experiment; 0 when it went through, 1 for bad input, 130 after Ctrl-C."""
    parser = make_parser(__doc__, identifiers=LAB.identifiers)
    parser.prog = "python -m gensar.lab.run"
    group = parser.add_argument_group("experiments")
    group.add_argument("--training-tasks", choices=LAB.training_tasks, help="six: the paper's; t5 only (default: two)")
    group.add_argument(
        "--history", choices=LAB.histories, help="published: as in GenSAR's code, leaks; t5 only (default: strict)"
    )
    group.add_argument("--evaluation", choices=LAB.evaluations, help="candidates: the paper's 1 + 99 (default: full)")
    group.add_argument("--decoder", choices=LAB.decoders, help="hf: the beam search of transformers (default: semid)")
    group.add_argument(
        "--baselines",
        choices=LAB.baselines,
        help="all: Markov chain, ALS, SASRec, dense (default: floors, the simple ones)",
    )
    group.add_argument("--trainer", choices=LAB.trainers, help="hf: the Trainer of transformers (default: own)")
    options = options_of(parser, arguments)
    return exit_status(lambda: _start(options))


def _start(options: Options) -> None:
    check_history(options.recipe, options.backbone)
    check_training_tasks(options.recipe, options.backbone)
    if options.baselines == "all":
        check_implicit()
    if options.trainer == "hf":
        check_accelerate()
        options = adapt(options)
    if is_main_process():
        run(options, LAB)
    else:
        help_training(options, LAB)


if __name__ == "__main__":
    sys.exit(main())
