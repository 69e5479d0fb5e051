"""A trie as one safetensors file: read and verified, or mapped and opened without reading it all."""

import os

import numpy as np

from semid._arrays import IntArray
from semid.errors import FormatError
from semid.io.persistence import read_tensors, write_tensors
from semid.trie.levels import Levels
from semid.trie.mark import Mark
from semid.trie.verifying import check_checksum, check_contents, check_shapes, checksum, damaged

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
    head = {"class": "Trie", "format_version": str(TRIE_FORMAT), "crc32": checksum(arrays), **mark.head()}
    write_tensors(path, arrays, metadata=head)


def read_trie(
    path: str | os.PathLike[str], *, mmap: bool, verify: bool
) -> tuple[Levels, tuple[int, ...], IntArray, Mark]:
    """Read or map the arrays; of a mapped file that is not verified, the header and the offsets alone are touched."""
    arrays, head = read_tensors(path, mmap=mmap)
    if head.get("class") != "Trie" or head.get("format_version") != str(TRIE_FORMAT):
        raise FormatError(
            f"{path} is not a trie of this format: expected class Trie, format {TRIE_FORMAT}, got "
            f"{head.get('class')}, format {head.get('format_version')}. Save it with Trie.save."
        )
    try:
        levels = Levels(*(arrays[name] for name in Levels._fields))
        sizes_array = arrays["codebook_sizes"]
    except KeyError as error:
        raise FormatError(f"{path} is damaged: expected an array {error}, got none. Save the trie again.") from error
    if sizes_array.ndim != 1 or sizes_array.dtype.kind not in "iu" or not len(sizes_array):
        raise damaged(path, "a row of codebook sizes", f"{sizes_array.dtype} of shape {sizes_array.shape}")
    sizes = tuple(sizes_array.tolist())
    generation = head.get("generation", "0")
    if not (generation.isdecimal() and len(generation) < 19):
        raise damaged(path, "a number as generation", repr(generation[:20]))
    alive = arrays.get("alive", np.empty(0, np.uint64))
    check_shapes(path, levels, sizes, alive)
    if verify:
        check_contents(path, levels, sizes, alive)
        check_checksum(path, arrays, head.get("crc32"))
    return levels, sizes, alive, Mark.of_head(head)
