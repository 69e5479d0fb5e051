"""Item ids <-> positions: a sorted array for int ids, a marisa trie for str ids."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Self, final

import marisa_trie
import numpy as np
import numpy.typing as npt

from semid.errors import InvalidTypeError, InvalidValueError

__all__ = ["IntKeys", "ItemKeys", "StrKeys", "as_ids", "make_keys"]

IntArray = npt.NDArray[np.int64]

_LEAST, _MOST = -(2**63), 2**63 - 1


class ItemKeys(ABC):
    """The ids of a catalogue; an item's position is its place in the order of the ids."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def find(self, ids: IntArray | list[Any]) -> IntArray:
        """Return the position of each id (from `as_ids`), -1 where there is none; other types are unknown, too."""

    @abstractmethod
    def at(self, positions: IntArray) -> list[Any]:
        """Return the ids at positions of shape (n,)."""

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that `from_arrays` takes."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Restore the ids from saved arrays."""


@final
class IntKeys(ItemKeys):
    """Ids that are integers of 64 bits."""

    def __init__(self, ids: IntArray) -> None:
        self.ids = ids
        self.order = np.argsort(ids, kind="stable")
        self.sorted = ids[self.order]

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, ids: IntArray | list[Any]) -> IntArray:
        """Return the position of each id, -1 where there is none."""
        if isinstance(ids, list):
            # At least one is no int of 64 bits; the others are looked up as such.
            fits = np.array([_is_int(item_id) and _LEAST <= item_id <= _MOST for item_id in ids], np.bool_)
            found = self.find(np.array([item_id if ok else 0 for item_id, ok in zip(ids, fits, strict=True)], np.int64))
            return np.where(fits, found, -1)
        at = np.minimum(np.searchsorted(self.sorted, ids), len(self.sorted) - 1)
        return np.where(self.sorted[at] == ids, self.order[at], -1)

    def at(self, positions: IntArray) -> list[Any]:
        """Return the ids at positions of shape (n,)."""
        return self.ids[positions].tolist()  # type: ignore[no-any-return]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that `from_arrays` takes."""
        return {"item_ids": self.ids}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Restore the ids from saved arrays."""
        return cls(np.asarray(arrays["item_ids"], np.int64))


@final
class StrKeys(ItemKeys):
    """Ids that are strings, kept in a marisa trie: a few bytes per id, and no Python object."""

    def __init__(self, keys: marisa_trie.Trie, position_of_key: IntArray) -> None:
        self.keys = keys
        self.position_of_key = position_of_key
        self.key_at = np.empty_like(position_of_key)
        self.key_at[position_of_key] = np.arange(len(position_of_key))

    def __len__(self) -> int:
        return len(self.position_of_key)

    def find(self, ids: IntArray | list[Any]) -> IntArray:
        """Return the position of each id, -1 where there is none."""
        get = self.keys.get
        found = (get(item_id, -1) if isinstance(item_id, str) and _is_storable(item_id) else -1 for item_id in ids)
        key = np.fromiter(found, np.int64, len(ids))
        return np.where(key >= 0, self.position_of_key[key], -1)

    def at(self, positions: IntArray) -> list[Any]:
        """Return the ids at positions of shape (n,)."""
        return [self.keys.restore_key(key) for key in self.key_at[positions].tolist()]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that `from_arrays` takes."""
        return {
            "item_ids.marisa": np.frombuffer(self.keys.tobytes(), np.uint8),
            "item_ids.position": self.position_of_key,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Restore the ids from saved arrays."""
        keys = marisa_trie.Trie().frombytes(arrays["item_ids.marisa"].tobytes())
        position_of_key = np.asarray(arrays["item_ids.position"], np.int64)
        if not np.array_equal(np.sort(position_of_key), np.arange(len(keys))):
            raise ValueError("the positions are no permutation")
        return cls(keys, position_of_key)


def as_ids(item_ids: Iterable[Any]) -> IntArray | list[Any]:
    """Return ids as an int64 array where that is possible, else as a list."""
    if isinstance(item_ids, str):
        raise InvalidTypeError(
            f"item_ids have a wrong type: expected a sequence of ids, got the str {item_ids!r}. Write [{item_ids!r}]."
        )
    if isinstance(item_ids, np.ndarray) and item_ids.ndim == 1 and item_ids.dtype.kind == "i":
        return item_ids.astype(np.int64)
    ids = item_ids.tolist() if isinstance(item_ids, np.ndarray) else list(item_ids)
    if ids and all(_is_int(item_id) and _LEAST <= item_id <= _MOST for item_id in ids):
        return np.array(ids, np.int64)
    return ids


def make_keys(ids: IntArray | list[Any]) -> ItemKeys:
    """Check ids (from `as_ids`), and return them as the kind they are.

    Raises
    ------
    InvalidTypeError
        If ids are neither all int nor all str.
    InvalidValueError
        If an id occurs twice, or is a str that UTF-8 cannot write or that holds a NUL.
    """
    if isinstance(ids, np.ndarray):
        keys = IntKeys(ids)
        repeated = np.flatnonzero(keys.sorted[1:] == keys.sorted[:-1])
        if len(repeated):
            raise _repeated(int(keys.sorted[repeated[0]]))
        return keys
    if ids and all(map(_is_int, ids)):
        raise InvalidValueError(
            f"an item id is too large: expected integers of 64 bits, got {max(ids, key=abs)}. Pass such ids as str."
        )
    if not all(isinstance(item_id, str) for item_id in ids):
        kinds = sorted({type(item_id).__name__ for item_id in ids})
        raise InvalidTypeError(
            f"item_ids have wrong types: expected all int or all str, got {', '.join(kinds)}. Convert them to one type."
        )
    unfit = next((item_id for item_id in ids if not _is_storable(item_id)), None)
    if unfit is not None:
        raise InvalidValueError(
            f"an item id cannot be stored: expected UTF-8 text without NUL, got {unfit!r}. Escape it."
        )
    trie = marisa_trie.Trie(ids)
    if len(trie) < len(ids):
        seen: set[str] = set()
        for item_id in ids:
            if item_id in seen:
                raise _repeated(item_id)
            seen.add(item_id)
    position_of_key = np.empty(len(ids), np.int64)
    position_of_key[np.fromiter((trie[item_id] for item_id in ids), np.int64, len(ids))] = np.arange(len(ids))
    return StrKeys(trie, position_of_key)


def _repeated(item_id: Any) -> InvalidValueError:
    return InvalidValueError(
        f"item_ids repeat: expected each id once, got {item_id!r} more than once. Drop the duplicates."
    )


def _is_int(item_id: Any) -> bool:
    return isinstance(item_id, (int, np.integer)) and not isinstance(item_id, (bool, np.bool_))


def _is_storable(item_id: str) -> bool:
    # marisa ends a key at NUL when it gives it back, and takes UTF-8 only.
    if "\0" in item_id:
        return False
    try:
        item_id.encode()
    except UnicodeEncodeError:
        return False
    return True
