"""What a catalogue says, as one number: equal for equal items with equal codes, in whatever order."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from semid._arrays import Array, CodeArray, IntArray
from semid.catalog.item_keys import IntKeys, ItemKeys

__all__ = ["checksum", "fingerprint"]

# Ids that are Python objects at one time.
BLOCK = 65_536


def fingerprint(
    keys: ItemKeys,
    codes: Mapping[str | None, CodeArray],
    codebook_sizes: Mapping[str | None, Sequence[int]],
    order: IntArray,
) -> str:
    """Return SHA-256 of ids, codes and codebook sizes, in hexadecimal.

    Parameters
    ----------
    keys : ItemKeys
    codes : mapping of view to ndarray of shape (n_items, n_levels)
        In the order of the positions of `keys`.
    codebook_sizes : mapping of view to sequence of int
    order : ndarray of shape (n_items,), integers
        Positions in lexicographic order of the codes of the first view by name, which makes the digest the same for
        every order of the items.
    """
    digest = hashlib.sha256()
    for view in sorted(codes, key=str):
        digest.update(repr((view, tuple(codebook_sizes[view]))).encode())
        digest.update(np.ascontiguousarray(codes[view][order], "<u4").tobytes())
    digest.update(b"int" if isinstance(keys, IntKeys) else b"str")
    for first in range(0, len(order), BLOCK):
        ids = keys.at(order[first : first + BLOCK])
        # No id holds a NUL, so that it separates them.
        texts = np.array(ids, "<i8").tobytes() if isinstance(keys, IntKeys) else "".join(f"{i}\0" for i in ids).encode()
        digest.update(texts)
    return digest.hexdigest()


def checksum(config: Any, arrays: Mapping[str, Array]) -> str:
    """Return SHA-256 of JSON values and of arrays, bit by bit, in hexadecimal."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data if array.size else b"")  # an empty array may have no memory to read
    return digest.hexdigest()
