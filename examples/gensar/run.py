"""One run from data to table: read, embed, identify, train, evaluate, write."""

import dataclasses
import hashlib
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import transformers

import semid
from semid.errors import InvalidValueError

from .alignment import check_training_tasks
from .backbone import Backbone
from .baselines import measure_floors
from .biencoder import fit_biencoder
from .candidates import candidates_for
from .causal import CausalBackbone
from .collaborative import collaborative_embeddings
from .dataset import TEST, VALID, Dataset, Task, load_dataset
from .embeddings import embed_texts
from .encoder_decoder import T5Backbone
from .evaluation import Evaluator, TaskResult
from .hf_trainer import check_accelerate, is_main_process, train_hf
from .identifiers import VIEW_OF, Identifiers, make_identifiers
from .language import make_tokenizer, query_token, teach_ids
from .output import RunFolder
from .presets import BackboneName, Recipe, recipe_for
from .ranking import CUTOFFS
from .recent import check_history
from .rivals import Rivals, check_implicit
from .sampled import intervals_of, rank_candidates
from .soft import check_inputs, features_of, soften
from .table import format_table, interval_rows
from .training import train

__all__ = [
    "BASELINES",
    "EVALUATIONS",
    "TRAINERS",
    "Options",
    "Stopwatch",
    "check_device",
    "default_folder",
    "first_users",
    "run",
]

BACKBONE_OF: dict[BackboneName, type[Backbone]] = {"causal": CausalBackbone, "t5": T5Backbone}
MAX_THREADS = 8
BASELINES = ("floors", "all")
EVALUATIONS = ("full", "candidates", "both")
TRAINERS = {"own": train, "hf": train_hf}
# The result file has all of `CUTOFFS`.
SHOWN = ("HR@5", "NDCG@5", "HR@10", "NDCG@10")


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


@final
class Stopwatch:
    """Wall seconds per part of the run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Announce the block and measure it."""
        print(f"{part} ..", flush=True)
        begin = time.perf_counter()
        yield
        self.seconds[part] = round(self.seconds.get(part, 0.0) + time.perf_counter() - begin, 1)


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


def first_users(dataset: Dataset, n_users: int | None) -> Dataset:
    """Return the data set with its first users only (None: all); the catalogue stays whole."""
    return dataclasses.replace(dataset, histories=dataset.histories[:n_users])


def run(options: Options) -> dict[str, Any]:
    """Do everything and return the content of results.json.

    Raises
    ------
    InvalidValueError, FormatError, OptionalDependencyError
        If an option or the data are wrong; nothing has been written then.
    TrainingInterrupted
        After Ctrl-C, when the run can be resumed.
    """
    recipe = options.recipe
    check_history(recipe, options.backbone)
    check_training_tasks(recipe, options.backbone)
    check_inputs(recipe, options.backbone)
    if options.baselines == "all":
        check_implicit()
    if options.trainer == "hf":
        check_accelerate()
    device = check_device(options.device)
    _use_threads()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # files of a megabyte need none
    watch = Stopwatch()
    with watch("read data"):
        dataset = first_users(load_dataset(options.data), recipe.n_users)
    folder = RunFolder(options.out or default_folder(dataset, options))
    if is_main_process():
        folder.check(resume=options.resume)
    if folder.results.is_file():
        results = folder.read_results()
        print(f"{folder.path} is finished; its table again:\n\n{results['table']}")
        return results
    _print_dataset(dataset)
    candidates = None if options.evaluation == "full" else candidates_for(dataset, options.data)

    with watch("embed items"):
        views = {
            "semantic": embed_texts(dataset.item_texts),
            "collaborative": collaborative_embeddings(dataset.histories, n_items=dataset.n_items, seed=options.seed),
        }
    with watch("make IDs"):
        joint = _joint(dataset, views, seed=options.seed) if recipe.identifier == "fused-biencoder" else None
        identifiers = make_identifiers(dataset.item_keys, views, recipe=recipe, seed=options.seed, joint=joint)
    print(identifiers.resolution)

    torch.manual_seed(options.seed)
    backbone = BACKBONE_OF[options.backbone](recipe)
    item_texts = dataset.item_texts if recipe.training_tasks == "six" else ()
    soft = recipe.inputs == "soft"
    tokenizer = make_tokenizer(
        () if soft else dataset.query_texts, item_texts=item_texts, n_soft_queries=dataset.n_queries if soft else 0
    )
    model = backbone.build(tokenizer)
    language = teach_ids(tokenizer, model, identifiers, dataset.query_texts, item_texts=item_texts, soft_queries=soft)
    if soft:
        texts = dataset.query_texts
        queries = features_of({"text": embed_texts(texts)}) if texts else np.zeros((0, 1), np.float32)
        soften(
            model, id_tokens=language.id_tokens, first_query=tokenizer.convert_tokens_to_ids(query_token(0)),
            query_features=queries, item_features=features_of(views), recipe=recipe,
        )  # fmt: skip
    model.to(device)
    evaluator = Evaluator(dataset, identifiers, language, recipe, decoder=options.decoder)
    asked = {
        "data": dataset.name, "preset": options.preset, "backbone": options.backbone, "seed": options.seed,
        "evaluation": options.evaluation, "decoder": options.decoder, "baselines": options.baselines,
        "trainer": options.trainer,
        "recipe": dataclasses.asdict(recipe), "ids": identifiers.sids.fingerprint, "histories": _fingerprint(dataset),
    }  # fmt: skip
    if is_main_process():
        folder.open(asked, identifiers, language)

    def validate() -> dict[str, float]:
        found = _evaluate(evaluator, model, split=VALID, n_users=recipe.n_valid_users)
        return {task: result.metrics["NDCG@10"] for task, result in found.items()}

    state = TRAINERS[options.trainer](
        backbone, model, dataset.histories, language, seed=options.seed, checkpoint=folder.checkpoint,
        validate=validate,
    )  # fmt: skip
    if not is_main_process():
        return {}  # what follows is done once
    watch.seconds["train"] = round(state.seconds, 1)
    watch.seconds["validate"] = round(state.validation_seconds, 1)

    rivals = None
    if options.baselines == "all":
        with watch("baselines"):
            queries = embed_texts(dataset.query_texts)
            rivals = Rivals(dataset, views["semantic"], queries, seed=options.seed)
    name = f"semid, {options.backbone}"
    found: dict[str, Any] = {}
    if options.evaluation != "candidates":
        found = _rank_catalogue(dataset, evaluator, model, watch, name=name, rivals=rivals)
    if candidates is not None:
        with watch("rank candidates"):
            ranked = rank_candidates(
                dataset, evaluator, model, candidates, tasks=_tasks(recipe), name=name, rivals=rivals
            )
        print(f"\n{ranked['table']}")
        table = "\n\n".join(part["table"] for part in (found, ranked) if part)
        found = {**(found or {key: ranked[key] for key in ("metrics", "floors")}), "candidates": ranked, "table": table}

    results = {
        **asked,
        **found,
        **({} if rivals is None else {"als": rivals.als_options, "sasrec": rivals.sasrec_training}),
        "query_note": dataset.query_note,
        "sizes": {"users": dataset.n_users, "items": dataset.n_items, "queries": dataset.n_queries},
        "training": {
            "steps": state.step,
            "best_step": state.best_step,
            "cpu_seconds": round(state.cpu_seconds, 1),
            "validations": state.validations,
        },
        "resolution": _resolution(identifiers),
        "parameters": model.num_parameters(),
        "wall_seconds": watch.seconds,
        "circumstances": _circumstances(device),
    }
    folder.save_model(model, tokenizer)
    folder.draw(dataset, identifiers, state, found["metrics"], found["floors"], name=name)
    folder.save_results(results)
    print(f"wrote {folder.path}: IDs, model, pictures, results.json")
    return results


def _joint(dataset: Dataset, views: Mapping[str, Any], *, seed: int) -> Any:
    queries = embed_texts(dataset.query_texts)
    return fit_biencoder(dataset.histories, views["semantic"], views["collaborative"], queries, seed=seed).items


def _rank_catalogue(
    dataset: Dataset, evaluator: Evaluator, model: Any, watch: Stopwatch, *, name: str, rivals: Rivals | None
) -> dict[str, Any]:
    """Evaluate on the full catalogue; returns metrics, intervals, floors, table and validity, and prints them."""
    with watch("evaluate"):
        answers = _evaluate(evaluator, model, split=TEST)
        spread = intervals_of(answers, cutoffs=CUTOFFS)
        whole = None
        if "search" in answers and evaluator.recipe.search_within == "query":
            whole = evaluator.evaluate(model, task="search", split=TEST, within="catalogue")
    with watch("floors"):
        floors = measure_floors(dataset, split=TEST)
        if rivals is not None:
            more = rivals.measure()
            floors = {task: {**rows, **more[task]} for task, rows in floors.items()}
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
        "validity": {task: _counts(answer) for task, answer in answers.items()},
    }


def _use_threads() -> None:
    # torch begins with one thread per physical core, or OMP_NUM_THREADS. More than a few find too little work in small
    # matrices, and more than the process may run on only wait for each other.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else MAX_THREADS
    torch.set_num_threads(min(torch.get_num_threads(), allowed, MAX_THREADS))


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


def _evaluate(evaluator: Evaluator, model: Any, *, split: int, n_users: int | None = None) -> dict[Task, TaskResult]:
    found = {
        task: evaluator.evaluate(model, task=task, split=split, n_users=n_users) for task in _tasks(evaluator.recipe)
    }
    return {task: result for task, result in found.items() if result is not None}


def _tasks(recipe: Recipe) -> tuple[Task, ...]:
    return tuple(task for task in VIEW_OF if recipe.tasks in ("both", task))


def _print_dataset(dataset: Dataset) -> None:
    n_events = sum(len(history.item) for history in dataset.histories)
    print(f"{dataset.name}: {dataset.n_users} users, {dataset.n_items} items, {n_events} interactions")
    print(f"{dataset.n_queries} queries: {dataset.query_note}")


def _fingerprint(dataset: Dataset) -> str:
    digest = hashlib.sha256("\n".join(dataset.query_texts).encode())
    for history in dataset.histories:
        for array in (history.item, history.query, history.time):
            digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()


def _counts(answer: TaskResult) -> dict[str, int]:
    return {"generated": answer.n_generated, "real": answer.n_real, "repeated": answer.n_repeated}


def _validity(answers: Mapping[Task, TaskResult]) -> str:
    return "\n".join(
        f"{task}: {answer.n_real} of {answer.n_generated} generated rows are real items, "
        f"{answer.n_repeated} repeat an item of their list"
        if answer.n_generated
        else f"{task}: the items of each query were scored, nothing was generated"
        for task, answer in answers.items()
    )


def _resolution(identifiers: Identifiers) -> dict[str, Any]:
    resolution = identifiers.resolution
    return {
        "codebook_sizes": list(resolution.codebook_sizes),
        "n_moved": resolution.n_moved,
        "n_collisions_before": resolution.n_collisions_before,
        "n_collisions_after": resolution.n_collisions_after,
        "distortion_before": resolution.distortion_before,
        "distortion_after": resolution.distortion_after,
    }


def _circumstances(device: torch.device) -> dict[str, Any]:
    packages = ("torch", "transformers", "tokenizers", "numpy", "scikit-learn", "numba")
    return {
        "semid": semid.__version__,
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
