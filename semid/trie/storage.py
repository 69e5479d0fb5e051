"""A trie as one safetensors file: read or mapped, and checked without reading it all."""

import os
from typing import Any

import numpy as np

from semid.errors import FormatError
from semid.io.persistence import read_tensors, write_tensors
from semid.trie.levels import IntArray, Levels
from semid.trie.mark import Mark

__all__ = ["TRIE_FORMAT", "read_trie", "write_trie"]

# Version of the arrays, in the file's header.
TRIE_FORMAT = 2


def write_trie(
    path: str | os.PathLike[str],
    levels: Levels,
    codebook_sizes: tuple[int, ...],
    alive: IntArray,
    *,
    mark: Mark,
) -> None:
    """Write the arrays, whole or not at all; `alive` is empty when all items are alive."""
    arrays = levels._asdict() | {"codebook_sizes": np.asarray(codebook_sizes, np.int64)}
    if len(alive):
        arrays["alive"] = alive
    head = {"class": "Trie", "format_version": str(TRIE_FORMAT), **mark.head()}
    write_tensors(path, arrays, metadata=head)


def read_trie(path: str | os.PathLike[str], *, mmap: bool) -> tuple[Levels, tuple[int, ...], IntArray, Mark]:
    """Read or map the arrays; of a mapped file, no more than the header and the offsets are touched."""
    arrays, head = read_tensors(path, mmap=mmap)
    if head.get("class") != "Trie" or head.get("format_version") != str(TRIE_FORMAT):
        raise FormatError(
            f"{path} is not a trie of this format: expected class Trie, format {TRIE_FORMAT}, got "
            f"{head.get('class')}, format {head.get('format_version')}. Save it with Trie.save."
        )
    try:
        levels = Levels(*(arrays[name] for name in Levels._fields))
        sizes = tuple(int(size) for size in arrays["codebook_sizes"])
    except KeyError as error:
        raise FormatError(f"{path} is damaged: expected an array {error}, got none. Save the trie again.") from error
    alive = arrays.get("alive", np.empty(0, np.uint64))
    _check_shapes(path, levels, sizes, alive)
    return levels, sizes, alive, Mark.of_head(head)


def _check_shapes(path: Any, levels: Levels, sizes: tuple[int, ...], alive: IntArray) -> None:
    """Raise unless the arrays have the types and lengths that the offsets ask for."""
    offsets = [levels.node_offsets, levels.code_offsets]
    if any(array.dtype != np.int64 or array.ndim != 1 or len(array) < 2 for array in offsets) or any(
        (np.diff(array) < 1).any() or array[0] != 0 for array in offsets
    ):
        raise _damaged(path, "rising offsets", "others")
    n_explicit, n_levels = levels.n_explicit, levels.n_levels
    if n_levels != len(sizes) or not 0 <= n_explicit < n_levels:
        raise _damaged(path, f"{len(sizes)} levels", f"{n_levels}, of which {n_explicit} explicit")
    n_words = (levels.n_items + 63) // 64
    expected = {
        "starts": (int(levels.node_offsets[n_explicit]), {"int32", "int64"}),
        "firsts": (int(levels.node_offsets[-1]), {str(levels.starts.dtype)}),
        "child_codes": (int(levels.code_offsets[-1]), {str(np.min_scalar_type(max(sizes) - 1))}),
        "forks": ((n_levels - 1 - n_explicit) * n_words, {"uint64"}),
    }
    for name, (length, dtypes) in expected.items():
        array = getattr(levels, name)
        if array.shape != (length,) or str(array.dtype) not in dtypes:
            raise _damaged(path, f"{name} of {length} {' or '.join(sorted(dtypes))}", f"{array.shape} {array.dtype}")
    if len(alive) and (alive.shape != (levels.n_items // 64 + 1,) or alive.dtype != np.uint64):
        raise _damaged(path, f"alive of {levels.n_items // 64 + 1} uint64", f"{alive.shape} {alive.dtype}")


def _damaged(path: Any, expected: str, got: str) -> FormatError:
    return FormatError(f"{path} is damaged: expected {expected}, got {got}. Save the trie again.")
