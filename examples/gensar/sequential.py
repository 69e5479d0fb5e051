"""What a sequence model makes of the items: the rows of SASRec's table, learnt from the training events alone.

LETTER (arXiv 2405.07314) takes its collaborative embeddings from SASRec, and GenSAR from UniSAR: models that read a
history in its order. SASRec scores item i after a history by ``r_i . state``, so rows are near each other where items
come after the same items. PPMI, in `collaborative`, says what is taken near each other, whichever comes first.
"""

import hashlib
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from semid.errors import FormatError

from .collaborative import unit_rows
from .dataset import Dataset
from .embeddings import cache_folder, check_cached
from .files import write_whole
from .sasrec import SasRecOptions, fit_sasrec

__all__ = ["SequentialItems", "sequential_items"]

FloatArray = npt.NDArray[np.float32]


class SequentialItems(NamedTuple):
    """The items as SASRec has learnt them, and what that took.

    Attributes
    ----------
    embeddings : ndarray of shape (n_items, dim), dtype float32
        Centred, of unit length; an item without a training event has a zero row.
    n_epochs : int
        Epochs trained; the one with the best validation NDCG@10 was kept.
    cpu_seconds : float
        CPU time of the training, also where it was done by an earlier run.
    """

    embeddings: FloatArray
    n_epochs: int
    cpu_seconds: float


def sequential_items(
    dataset: Dataset, *, options: SasRecOptions | None = None, seed: int, cache: Path | None = None
) -> SequentialItems:
    """Train SASRec and return its items; done once per content, options and seed, so that a run can be resumed.

    Parameters
    ----------
    dataset : Dataset
        Held-out events are no targets of the training; those of validation choose the epoch.
    options : SasRecOptions, optional
    seed : int
    cache : Path, optional
        Folder of what was found, `cache_folder` if left out.

    Raises
    ------
    FormatError
        If the cached file is damaged.
    """
    options = options or SasRecOptions()
    path = (cache or cache_folder()) / f"sasrec-{_content_hash(dataset, options, seed)}.safetensors"
    if path.is_file():
        return _load(path, shape=(dataset.n_items, options.dim))
    begin = time.process_time()
    model, validations = fit_sasrec(dataset, options=options, seed=seed)
    rows, known = model.items.weight[:-1].detach().numpy(), _known(dataset)
    centre = rows[known].mean(axis=0) if known.any() else 0.0
    found = SequentialItems(
        unit_rows(rows - centre, known=known),
        n_epochs=len(validations) or options.max_epochs,
        cpu_seconds=round(time.process_time() - begin, 1),
    )
    told = {"n_epochs": str(found.n_epochs), "cpu_seconds": str(found.cpu_seconds)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda temporary: save_file({"embeddings": found.embeddings}, temporary, metadata=told))
    return found


def _known(dataset: Dataset) -> npt.NDArray[np.bool_]:
    known = np.zeros(dataset.n_items, dtype=bool)
    for history in dataset.histories:
        known[history.item[history.train_events()]] = True
    return known


def _content_hash(dataset: Dataset, options: SasRecOptions, seed: int) -> str:
    digest = hashlib.sha256(f"{options} {seed} {dataset.n_items}".encode())
    for history in dataset.histories:
        for array in (history.item, history.time, history.split, history.search_split):
            digest.update(b"%d:" % len(array) + array.astype("<i8").tobytes())
    return digest.hexdigest()[:32]


def _load(path: Path, *, shape: tuple[int, int]) -> SequentialItems:
    try:
        with safe_open(path, framework="numpy") as file:
            told = file.metadata() or {}
            found = SequentialItems(
                file.get_tensor("embeddings"), int(told["n_epochs"]), cpu_seconds=float(told["cpu_seconds"])
            )
    except (SafetensorError, KeyError, ValueError) as error:
        raise FormatError(f"{path} cannot be read: expected what SASRec has learnt, got {error}. Delete it.") from error
    check_cached(found.embeddings, path, shape=shape)
    return found
