"""One run, from data to table. Its steps are the modules of this folder, in the order in which they are best read.

    data          loaders, neutral, dataset     items with texts, queries, one history of events per user
    views         views, sasrec                 two embeddings per item: its text, and who takes it with what
    identifiers   identifiers                   the views quantized to IDs, and the IDs made unique
    language      language                      IDs, queries and histories as tokens
    models        models, soft                  a language model that reads and writes these tokens
    training      training                      it learns to write the ID of the next item
    evaluation    evaluation, metrics           it answers the held-out events, beside simple `baselines`
    output        output                        IDs, model, pictures, results.json

`Choices` holds the parts that an experiment can exchange; the experiments are in the folder lab.
"""

import dataclasses
import os
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
import transformers

import semid
from semid.errors import InvalidValueError, SemidError

from .baselines import Baselines, floors_alone
from .dataset import TEST, VALID, Dataset, Task, first_users
from .evaluation import Evaluator, TaskResult, evaluate_tasks, intervals_of
from .identifiers import IDENTIFIERS, Identifiers, make_identifiers
from .language import PastRule, strict_past
from .loaders import load_dataset
from .metrics import SHOWN, format_table, interval_rows
from .models import Reader, make_reader
from .options import Options, check_device, default_folder
from .output import RunFolder, Stopwatch, circumstances, fingerprint, resolution_of
from .presets import check_recipe
from .training import TrainingInterrupted, TrainingState, train
from .views import FloatArray, SequentialItems, views_of

__all__ = [
    "MAIN",
    "Choices",
    "Job",
    "exit_status",
    "fit",
    "full_catalogue",
    "prepare",
    "rank_catalogue",
    "read_data",
    "run",
]

MAX_THREADS = 8


def run(options: Options, choices: "Choices | None" = None) -> dict[str, Any]:
    """Do everything and return the content of results.json.

    Raises
    ------
    InvalidValueError, FormatError, OptionalDependencyError
        If an option or the data are wrong; nothing has been written then.
    TrainingInterrupted
        After Ctrl-C, when the run can be resumed.
    """
    choices, recipe, watch = choices or MAIN, options.recipe, Stopwatch()

    # Data. The folder of the run is checked before any work; a finished run only prints its table again.
    dataset = read_data(options, choices, watch)
    folder = RunFolder(options.out or default_folder(dataset, options))
    folder.check(resume=options.resume)
    asked = {
        "data": dataset.name, "preset": options.preset, "backbone": options.backbone, "seed": options.seed,
        "evaluation": options.evaluation, "decoder": options.decoder, "baselines": options.baselines,
        "trainer": options.trainer, "recipe": dataclasses.asdict(recipe), "histories": fingerprint(dataset),
    }  # fmt: skip
    if folder.results.is_file():
        folder.compare(asked)
        results = folder.read_results()
        print(f"{folder.path} is finished; its table again:\n\n{results['table']}")
        return results
    _print_dataset(dataset)
    # The protocol reads its files now, so that a bad one is noticed before the training and not after it.
    measure = choices.evaluations[options.evaluation](dataset, options.data)

    # Views, identifiers, language, model.
    job = prepare(dataset, options, choices, watch)
    model, language = job.reader.model, job.reader.language
    asked["ids"] = job.identifiers.sids.fingerprint
    folder.open(asked, job.identifiers, language)

    # Training.
    state = fit(job, options, choices, checkpoint=folder.checkpoint)
    watch.seconds["train"] = round(state.seconds, 1)
    watch.seconds["validate"] = round(state.validation_seconds, 1)

    # Evaluation.
    name = f"semid, {options.backbone}"
    with watch("baselines"):
        baselines = choices.baselines[options.baselines](dataset, job.views, seed=options.seed)
    found = measure(job.evaluator, model, baselines, watch, name=name)

    # Output.
    results = {
        **asked,
        **found,
        **baselines.told,
        **({} if job.sequential is None else {"collaborative": _training_of(job.sequential)}),
        "query_note": dataset.query_note,
        "sizes": {"users": dataset.n_users, "items": dataset.n_items, "queries": dataset.n_queries},
        "training": {
            "steps": state.step,
            "best_step": state.best_step,
            "cpu_seconds": round(state.cpu_seconds, 1),
            "validations": state.validations,
        },
        "resolution": resolution_of(job.identifiers),
        "parameters": model.num_parameters(),
        "wall_seconds": watch.seconds,
        "circumstances": circumstances(check_device(options.device)),
    }
    folder.save_model(model, language.tokenizer)
    folder.draw(dataset, job.identifiers, state, found["metrics"], found["floors"], name=name)
    folder.save_results(results)
    print(f"wrote {folder.path}: IDs, model, pictures, results.json")
    return results


def read_data(options: Options, choices: "Choices", watch: Stopwatch) -> Dataset:
    """Check what was asked for, and read the data."""
    choices.check(options)
    check_recipe(options.recipe, options.backbone)
    check_device(options.device)
    _use_threads()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # files of a megabyte need none
    with watch("read data"):
        return first_users(load_dataset(options.data), options.recipe.n_users)


class Job(NamedTuple):
    """What is made of the data before the training.

    Attributes
    ----------
    views : dict of view to ndarray of shape (n_items, dim), dtype float32
    sequential : SequentialItems or None
        SASRec's part of the collaborative view.
    identifiers : Identifiers
    reader : Reader
        The model on its device, how it is trained, and its tokens.
    evaluator : Evaluator
    """

    dataset: Dataset
    views: dict[str, FloatArray]
    sequential: SequentialItems | None
    identifiers: Identifiers
    reader: Reader
    evaluator: Evaluator


def prepare(dataset: Dataset, options: Options, choices: "Choices", watch: Stopwatch) -> Job:
    """Embed the items, make their IDs, and build a model that has a token for each code."""
    recipe, seed = options.recipe, options.seed
    with watch("embed items"):
        views, sequential = views_of(dataset, recipe=recipe, seed=seed)
    with watch("make IDs"):
        identifiers = choices.identifiers[recipe.identifier](dataset, views, recipe=recipe, seed=seed)
    print(identifiers.resolution)

    torch.manual_seed(seed)
    reader = choices.training_tasks[recipe.training_tasks](
        dataset, views, identifiers, backbone=options.backbone, recipe=recipe, past=choices.histories[recipe.history]
    )
    reader.model.to(check_device(options.device))
    evaluator = Evaluator(dataset, identifiers, reader.language, recipe, decode=choices.decoders[options.decoder])
    return Job(dataset, views, sequential, identifiers, reader, evaluator)


def fit(job: Job, options: Options, choices: "Choices", *, checkpoint: Path) -> TrainingState:
    """Train the model; what is validated on the way is NDCG@10 of each task on the validation targets."""
    backbone, model, language = job.reader
    print("train ..", flush=True)

    def validate() -> dict[str, float]:
        found = evaluate_tasks(job.evaluator, model, split=VALID, n_users=options.recipe.n_valid_users)
        return {task: result.metrics["NDCG@10"] for task, result in found.items()}

    return choices.trainers[options.trainer](
        backbone, model, job.dataset.histories, language, seed=options.seed, checkpoint=checkpoint, validate=validate
    )


def full_catalogue(dataset: Dataset, folder: Path | None) -> Callable[..., dict[str, Any]]:
    """Return the protocol of the main job, which needs no files: `rank_catalogue`."""
    return rank_catalogue


def rank_catalogue(
    evaluator: Evaluator, model: Any, baselines: Baselines, watch: Stopwatch, *, name: str
) -> dict[str, Any]:
    """Rank all items for every test target, and print the table; `name` is the model's among the baselines.

    Returns
    -------
    found : dict
        ``metrics``, ``intervals``, ``floors``, ``table`` and ``validity``; if a search ranks the items of its query,
        also ``whole_catalogue``, the same searches over all items.
    """
    with watch("evaluate"):
        answers = evaluate_tasks(evaluator, model, split=TEST)
        spread = intervals_of(answers)
        whole = None
        if "search" in answers and evaluator.recipe.search_within == "query":
            whole = evaluator.evaluate(model, task="search", split=TEST, within="catalogue")
    with watch("measure baselines"):
        floors = baselines.measure()
    metrics = {task: answer.metrics for task, answer in answers.items()}
    below = interval_rows(spread)
    if whole is not None:
        below["search"]["  of the whole catalogue"] = whole.metrics
    table = format_table(metrics, floors, name=name, below=below, shown=SHOWN)
    print(f"\n{table}\n\n{_validity(answers)}")
    return {
        "metrics": metrics,
        "intervals": spread,
        "floors": floors,
        **({} if whole is None else {"whole_catalogue": {"search": whole.metrics}}),
        "table": table,
        "validity": {
            task: {"generated": answer.n_generated, "real": answer.n_real, "repeated": answer.n_repeated}
            for task, answer in answers.items()
        },
    }


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """The parts of a run that an experiment can exchange: tables from the name in options or recipe to the function.

    `MAIN` holds what the main job knows. A program of `lab` adds entries and passes its tables to `run`.

    Attributes
    ----------
    identifiers : mapping
        `Recipe.identifier` -> a function like `make_identifiers`.
    histories : mapping
        `Recipe.history` -> the rule that tells which earlier events a prompt holds.
    training_tasks : mapping
        `Recipe.training_tasks` -> a function like `make_reader`.
    trainers : mapping
        `Options.trainer` -> a function like `train`.
    decoders : mapping
        `Options.decoder` -> a function like `semid.generate`.
    baselines : mapping
        `Options.baselines` -> a function like `floors_alone`.
    evaluations : mapping
        `Options.evaluation` -> a function like `full_catalogue`.
    """

    identifiers: Mapping[str, Callable[..., Identifiers]]
    histories: Mapping[str, PastRule]
    training_tasks: Mapping[str, Callable[..., Reader]]
    trainers: Mapping[str, Callable[..., TrainingState]]
    decoders: Mapping[str, Callable[..., Any]]
    baselines: Mapping[str, Callable[..., Baselines]]
    evaluations: Mapping[str, Callable[[Dataset, Path | None], Callable[..., dict[str, Any]]]]

    def check(self, options: Options) -> None:
        """Raise InvalidValueError if a name that was asked for is in no table."""
        recipe = options.recipe
        for switch, name, table in (
            ("identifier", recipe.identifier, self.identifiers),
            ("history", recipe.history, self.histories),
            ("training-tasks", recipe.training_tasks, self.training_tasks),
            ("trainer", options.trainer, self.trainers),
            ("decoder", options.decoder, self.decoders),
            ("baselines", options.baselines, self.baselines),
            ("evaluation", options.evaluation, self.evaluations),
        ):
            if name not in table:
                raise InvalidValueError(f"--{switch} is unknown: expected one of {list(table)}, got {name!r}.")


MAIN = Choices(
    identifiers=dict.fromkeys(IDENTIFIERS, make_identifiers),
    histories={"strict": strict_past},
    training_tasks={"two": make_reader},
    trainers={"own": train},
    decoders={"semid": semid.generate},
    baselines={"floors": floors_alone},
    evaluations={"full": full_catalogue},
)


def exit_status(work: Callable[[], object]) -> int:
    """Do the work of a program and return its exit status: 0, 1 for bad input, 130 after Ctrl-C."""
    try:
        work()
    except KeyboardInterrupt as stopped:
        kept = "the checkpoint is written" if isinstance(stopped, TrainingInterrupted) else "finished files are kept"
        print(f"\ninterrupted; {kept}. Go on with the same command and --resume.", file=sys.stderr)
        return 130
    except (SemidError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _use_threads() -> None:
    # torch starts with one thread per physical core, or OMP_NUM_THREADS. Small matrices give little work to more than a
    # few threads, and threads beyond the cores of the process only wait for each other.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else MAX_THREADS
    torch.set_num_threads(min(torch.get_num_threads(), allowed, MAX_THREADS))


def _print_dataset(dataset: Dataset) -> None:
    n_events = sum(len(history.item) for history in dataset.histories)
    print(f"{dataset.name}: {dataset.n_users} users, {dataset.n_items} items, {n_events} interactions")
    print(textwrap.fill(f"{dataset.n_queries} queries: {dataset.query_note}", 100))


def _training_of(sequential: SequentialItems) -> dict[str, float]:
    return {"sasrec_epochs": sequential.n_epochs, "sasrec_cpu_seconds": sequential.cpu_seconds}


def _validity(answers: Mapping[Task, TaskResult]) -> str:
    return "\n".join(
        f"{task}: {answer.n_real} of {answer.n_generated} generated rows are real items, "
        f"{answer.n_repeated} repeat an item of their list"
        if answer.n_generated
        else f"{task}: the items of each query were scored, nothing was generated"
        for task, answer in answers.items()
    )
