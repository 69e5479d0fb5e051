"""A trie in a file: written whole or not at all, and verified when it is read."""

import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from semid._arrays import Array, BoolArray, IntArray
from semid._checks import code_dtype
from semid.errors import FormatError
from semid.io.persistence import read_tensors, write_tensors
from semid.trie.levels import UNMARKED, Levels, Mark

__all__ = ["check_contents", "check_shapes", "checksum", "read_trie", "write_trie"]


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
    head = {"class": "Trie", "format_version": str(TRIE_FORMAT), "crc32": checksum(arrays, mark), **mark.head()}
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
    mark = Mark.of_head(head)
    if verify:
        check_contents(path, levels, sizes, alive)
        check_checksum(path, arrays, mark, head.get("crc32"))
    return levels, sizes, alive, mark


def checksum(arrays: Mapping[str, Array], mark: Mark = UNMARKED) -> str:
    """Return the CRC-32 of named arrays and a mark, in hexadecimal: against accidents, not against intent."""
    crc = 0
    for name, text in sorted(mark.head().items()):
        crc = zlib.crc32(f"{name} {text}".encode(), crc)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        crc = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), crc)
        if array.size:  # an empty array may have no memory to read
            crc = zlib.crc32(array.view(np.uint8).data, crc)
    return f"{crc:08x}"


def check_checksum(path: Any, arrays: Mapping[str, Array], mark: Mark, expected: str | None) -> None:
    """Raise unless arrays and mark have the checksum of the file's header; files of earlier versions have none."""
    if expected is not None and (found := checksum(arrays, mark)) != expected:
        raise damaged(path, f"checksum {expected}", found)


def check_shapes(path: Any, levels: Levels, sizes: tuple[int, ...], alive: IntArray) -> None:
    """Raise unless the arrays have the types and lengths that the offsets ask for; reads the offsets alone."""
    offsets = [levels.node_offsets, levels.code_offsets]
    if any(array.dtype != np.int64 or array.ndim != 1 or len(array) < 2 for array in offsets) or any(
        (np.diff(array) < 1).any() or array[0] != 0 for array in offsets
    ):
        raise damaged(path, "rising offsets", "others")
    n_explicit, n_levels = levels.n_explicit, levels.n_levels
    if n_levels != len(sizes) or not 0 <= n_explicit < n_levels:
        raise damaged(path, f"{len(sizes)} levels", f"{n_levels}, of which {n_explicit} explicit")
    if min(sizes) < 1 or max(sizes) > 2**32:
        raise damaged(path, "codebook sizes in 1 .. 4294967296", f"{sizes}")
    edges = np.diff(levels.code_offsets)
    nodes = np.diff(levels.node_offsets) - 1
    if nodes[0] != 1 or (nodes[1:] != edges[:n_explicit]).any() or (edges[n_explicit:] != levels.n_items).any():
        raise damaged(path, "an edge for each node, and a code for each item", f"{nodes} nodes, {edges} edges")
    n_words = (levels.n_items + 63) // 64
    expected = {
        "starts": (int(levels.node_offsets[n_explicit]), {"int32", "int64"}),
        "firsts": (int(levels.node_offsets[-1]), {str(levels.starts.dtype)}),
        "child_codes": (int(levels.code_offsets[-1]), {str(code_dtype(max(sizes)))}),
        "forks": ((n_levels - 1 - n_explicit) * n_words, {"uint64"}),
    }
    for name, (length, dtypes) in expected.items():
        array = getattr(levels, name)
        if array.shape != (length,) or str(array.dtype) not in dtypes:
            raise damaged(path, f"{name} of {length} {' or '.join(sorted(dtypes))}", f"{array.shape} {array.dtype}")
    if len(alive) and (alive.shape != (levels.n_items // 64 + 1,) or alive.dtype != np.uint64):
        raise damaged(path, f"alive of {levels.n_items // 64 + 1} uint64", f"{alive.shape} {alive.dtype}")


def check_contents(path: Any, levels: Levels, sizes: tuple[int, ...], alive: IntArray) -> None:
    """Raise unless the values are those of a trie, so that no kernel can leave the arrays; reads everything once.

    The shapes are checked already.
    """
    below = _check_explicit(path, levels, sizes)
    begins = np.zeros(levels.n_items, np.bool_)  # of a node of the present depth
    begins[below[:-1]] = True
    n_words = (levels.n_items + 63) // 64
    for level in range(levels.n_explicit, levels.n_levels):
        codes = levels.flat(level)
        _check_codes(path, level, codes, sizes[level], falls=(codes[1:] < codes[:-1]) & ~begins[1:])
        begins[1:] |= codes[1:] != codes[:-1]
        if level < levels.n_levels - 1:
            first = (level - levels.n_explicit) * n_words
            if not np.array_equal(levels.forks[first : first + n_words], _words(begins, n_words)):
                raise damaged(path, f"forks of level {level} where its codes change", "others")
    if not begins.all():
        raise damaged(path, "distinct IDs", f"rank {int(np.argmin(begins))} like the one before")
    if len(alive) and int(alive[-1]) >> (levels.n_items % 64):
        raise damaged(path, f"{levels.n_items} bits of what is alive", "more")


def _check_explicit(path: Any, levels: Levels, sizes: tuple[int, ...]) -> IntArray:
    """Check the explicit levels and return the first ranks of the nodes below them."""
    above = _rising(path, levels, "firsts", levels.firsts, 0, levels.n_items)
    for level in range(levels.n_explicit):
        n_edges = levels.n_nodes(level + 1)
        starts = _rising(path, levels, "starts", levels.starts, level, n_edges)
        firsts = _rising(path, levels, "firsts", levels.firsts, level + 1, levels.n_items)
        if not np.array_equal(firsts[starts], above):
            raise damaged(path, f"the items of each node of depth {level} below its children", "others")
        codes = levels.child_codes[levels.code_offsets[level] : levels.code_offsets[level + 1]]
        falls = codes[1:] <= codes[:-1]
        falls[starts[1:-1] - 1] = False  # where the next node's children begin
        _check_codes(path, level, codes, sizes[level], falls=falls)
        above = firsts
    return above


def _rising(path: Any, levels: Levels, name: str, array: IntArray, depth: int, last: int) -> IntArray:
    """Return the entries of a depth, or raise unless they rise from 0 to `last`."""
    part = array[levels.node_offsets[depth] : levels.node_offsets[depth + 1]]
    if part[0] != 0 or part[-1] != last or (part[1:] <= part[:-1]).any():
        raise damaged(path, f"{name} of depth {depth} that rise from 0 to {last}", f"{part[:3]} .. {part[-1]}")
    return part


def _check_codes(path: Any, level: int, codes: IntArray, size: int, *, falls: BoolArray) -> None:
    if codes.max() >= size:
        raise damaged(path, f"codes below {size} at level {level}", f"{codes.max()}")
    if falls.any():
        at = int(np.argmax(falls))
        raise damaged(path, f"rising codes at level {level}", f"{codes[at]}, {codes[at + 1]} at place {at}")


def _words(bits: BoolArray, n_words: int) -> IntArray:
    packed = np.zeros(8 * n_words, np.uint8)
    packed[: (len(bits) + 7) // 8] = np.packbits(bits, bitorder="little")
    return packed.view("<u8").astype(np.uint64, copy=False)


def damaged(path: Any, expected: str, got: str) -> FormatError:
    """Return the error for a file whose arrays do not fit."""
    return FormatError(f"{path} is damaged: expected {expected}, got {got}. Save the trie again.")
