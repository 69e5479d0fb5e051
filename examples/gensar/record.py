"""What a result file says beside the metrics: how long each part took, on which data, IDs, versions and machine."""

import hashlib
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, final

import torch

import semid

from .dataset import Dataset
from .identifiers import Identifiers

__all__ = ["Stopwatch", "circumstances", "fingerprint", "resolution_of"]


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


def fingerprint(dataset: Dataset) -> str:
    """Return the SHA-256 of queries and histories."""
    digest = hashlib.sha256("\n".join(dataset.query_texts).encode())
    for history in dataset.histories:
        for array in (history.item, history.query, history.time):
            digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()


def resolution_of(identifiers: Identifiers) -> dict[str, Any]:
    """Return what making the IDs unique has cost."""
    resolution = identifiers.resolution
    return {
        "codebook_sizes": list(resolution.codebook_sizes),
        "n_moved": resolution.n_moved,
        "n_collisions_before": resolution.n_collisions_before,
        "n_collisions_after": resolution.n_collisions_after,
        "distortion_before": resolution.distortion_before,
        "distortion_after": resolution.distortion_after,
    }


def circumstances(device: torch.device) -> dict[str, Any]:
    """Return versions, machine and threads."""
    packages = ("torch", "transformers", "tokenizers", "numpy", "scikit-learn", "numba")
    return {
        "semid": semid.__version__,
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
