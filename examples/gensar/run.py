"""One run from data to table: read, embed, identify, train, evaluate, write."""

import dataclasses
import os
from typing import Any

import torch
import transformers

from .assembly import identify, make_reader
from .candidates import candidates_for
from .dataset import VALID, Dataset, first_users
from .evaluation import Evaluator
from .hf_trainer import is_main_process
from .loaders import load_dataset
from .measuring import evaluate_tasks, rank_catalogue, tasks_of
from .options import TRAINERS, Options, check_device, check_options, default_folder
from .output import RunFolder
from .record import Stopwatch, circumstances, fingerprint, resolution_of
from .rivals import Rivals
from .sampled import rank_candidates
from .views import SequentialItems, embed_texts, views_of

__all__ = ["run"]

MAX_THREADS = 8


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
    check_options(options)
    device = check_device(options.device)
    _use_threads()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # files of a megabyte need none
    watch = Stopwatch()
    with watch("read data"):
        dataset = first_users(load_dataset(options.data), recipe.n_users)
    folder = RunFolder(options.out or default_folder(dataset, options))
    asked = {
        "data": dataset.name, "preset": options.preset, "backbone": options.backbone, "seed": options.seed,
        "evaluation": options.evaluation, "decoder": options.decoder, "baselines": options.baselines,
        "trainer": options.trainer, "recipe": dataclasses.asdict(recipe), "histories": fingerprint(dataset),
    }  # fmt: skip
    if is_main_process():
        folder.check(resume=options.resume)
    if folder.results.is_file():
        folder.compare(asked)
        results = folder.read_results()
        print(f"{folder.path} is finished; its table again:\n\n{results['table']}")
        return results
    _print_dataset(dataset)
    candidates = None if options.evaluation == "full" else candidates_for(dataset, options.data)

    with watch("embed items"):
        views, sequential = views_of(dataset, recipe=recipe, seed=options.seed)
    with watch("make IDs"):
        identifiers = identify(dataset, views, recipe=recipe, seed=options.seed)
    print(identifiers.resolution)

    torch.manual_seed(options.seed)
    backbone, model, language = make_reader(dataset, views, identifiers, backbone=options.backbone, recipe=recipe)
    model.to(device)
    evaluator = Evaluator(dataset, identifiers, language, recipe, decoder=options.decoder)
    asked["ids"] = identifiers.sids.fingerprint
    if is_main_process():
        folder.open(asked, identifiers, language)

    def validate() -> dict[str, float]:
        found = evaluate_tasks(evaluator, model, split=VALID, n_users=recipe.n_valid_users)
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
        found = rank_catalogue(dataset, evaluator, model, watch, name=name, rivals=rivals)
    if candidates is not None:
        with watch("rank candidates"):
            ranked = rank_candidates(
                dataset, evaluator, model, candidates, tasks=tasks_of(recipe), name=name, rivals=rivals
            )
        print(f"\n{ranked['table']}")
        table = "\n\n".join(part["table"] for part in (found, ranked) if part)
        found = {**(found or {key: ranked[key] for key in ("metrics", "floors")}), "candidates": ranked, "table": table}

    results = {
        **asked,
        **found,
        **({} if rivals is None else {"als": rivals.als_options, "sasrec": rivals.sasrec_training}),
        **({} if sequential is None else {"collaborative": _told(sequential)}),
        "query_note": dataset.query_note,
        "sizes": {"users": dataset.n_users, "items": dataset.n_items, "queries": dataset.n_queries},
        "training": {
            "steps": state.step,
            "best_step": state.best_step,
            "cpu_seconds": round(state.cpu_seconds, 1),
            "validations": state.validations,
        },
        "resolution": resolution_of(identifiers),
        "parameters": model.num_parameters(),
        "wall_seconds": watch.seconds,
        "circumstances": circumstances(device),
    }
    folder.save_model(model, language.tokenizer)
    folder.draw(dataset, identifiers, state, found["metrics"], found["floors"], name=name)
    folder.save_results(results)
    print(f"wrote {folder.path}: IDs, model, pictures, results.json")
    return results


def _told(sequential: SequentialItems) -> dict[str, float]:
    return {"sasrec_epochs": sequential.n_epochs, "sasrec_cpu_seconds": sequential.cpu_seconds}


def _use_threads() -> None:
    # torch begins with one thread per physical core, or OMP_NUM_THREADS. More than a few find too little work in small
    # matrices, and more than the process may run on only wait for each other.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else MAX_THREADS
    torch.set_num_threads(min(torch.get_num_threads(), allowed, MAX_THREADS))


def _print_dataset(dataset: Dataset) -> None:
    n_events = sum(len(history.item) for history in dataset.histories)
    print(f"{dataset.name}: {dataset.n_users} users, {dataset.n_items} items, {n_events} interactions")
    print(f"{dataset.n_queries} queries: {dataset.query_note}")
