"""Item ids <-> positions: a sorted array for int ids, a marisa trie for str ids."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Self, final

import marisa_trie
import numpy as np
import numpy.typing as npt

from semid._arrays import Array, Int64Array, IntArray
from semid._checks import check_id_types, fits_int64, ids_repeat
from semid.errors import InvalidValueError

__all__ = ["IntKeys", "ItemKeys", "StrKeys", "make_keys"]


# Ids that are Python objects at one time: a million ids are never a million objects.
BLOCK_IDS = 65_536


class ItemKeys(ABC):
    """The ids of a catalogue; an item's position is its place in the order of the ids."""

    def blocks(self, positions: IntArray | None = None) -> Iterator[list[Any]]:
        """Yield the ids at positions of shape (n,), or all ids in their order, by lists of `BLOCK_IDS` at most."""
        positions = np.arange(len(self)) if positions is None else positions
        for first in range(0, len(positions), BLOCK_IDS):
            yield self.at(positions[first : first + BLOCK_IDS])

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def find(self, ids: Int64Array | list[Any]) -> Int64Array:
        """Return the position of each id (from `as_ids`), -1 for unknown ids; ids of other types are unknown."""

    @abstractmethod
    def at(self, positions: IntArray) -> list[Any]:
        """Return the ids at positions of shape (n,)."""

    @abstractmethod
    def joined(self, ids: Int64Array | list[Any]) -> "ItemKeys":
        """Return these ids and then new ones (from `as_ids`), checked as `make_keys` checks them."""

    @abstractmethod
    def kept(self, positions: IntArray) -> "ItemKeys":
        """Return the ids at some positions (at least one, each once), in the order of the positions."""

    @abstractmethod
    def arrays(self) -> dict[str, Array]:
        """Return the arrays that hold the ids."""

    def saved_arrays(self) -> dict[str, Array]:
        """Return the arrays that `from_arrays` takes."""
        return self.arrays()

    @classmethod
    @abstractmethod
    def from_arrays(cls, arrays: Mapping[str, Array], *, verify: bool) -> Self:
        """Restore the ids from saved arrays; a ValueError, with `verify`, unless they are what a catalogue writes."""


@final
class IntKeys(ItemKeys):
    """Ids that are integers of 64 bits: sorted, with the permutation and its inverse; 12 or 16 bytes per id."""

    def __init__(self, ordered: Int64Array, position_at: IntArray, place_of: IntArray) -> None:
        self.ordered = ordered
        self.position_at = position_at  # the position of the id at each place in `ordered`
        self.place_of = place_of  # the place in `ordered` of the id at each position

    def __len__(self) -> int:
        return len(self.ordered)

    def find(self, ids: Int64Array | list[Any]) -> Int64Array:
        """Return the position of each id, -1 for unknown ids."""
        if isinstance(ids, list):
            # At least one is not an integer of 64 bits, and unknown; the others are looked up.
            fits = np.array([fits_int64(item_id) for item_id in ids], np.bool_)
            found = self.find(np.array([item_id if ok else 0 for item_id, ok in zip(ids, fits, strict=True)], np.int64))
            return np.where(fits, found, -1)
        # Sorted ids are found in neighbouring places: 48 against 229 ns per id for 1M random ids of 1M.
        order = np.argsort(ids)
        asked = ids[order]
        place = np.empty(len(ids), np.int64)
        place[order] = np.minimum(np.searchsorted(self.ordered, asked), len(self.ordered) - 1)
        return np.where(self.ordered[place] == ids, self.position_at[place].astype(np.int64), -1)

    def at(self, positions: IntArray) -> list[Any]:
        """Return the ids at positions of shape (n,)."""
        return self.ordered[self.place_of[positions]].tolist()  # type: ignore[no-any-return]

    def joined(self, ids: Int64Array | list[Any]) -> "ItemKeys":
        """Return these ids and then new ones."""
        return make_keys(np.concatenate([self.ordered[self.place_of], ids]) if isinstance(ids, np.ndarray)
                         else [*self.at(np.arange(len(self))), *ids])  # fmt: skip

    def kept(self, positions: IntArray) -> "IntKeys":
        """Return the ids at some positions, in their order."""
        return _int_keys(self.ordered[self.place_of[positions]])

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that hold the ids."""
        return {
            "item_ids.ordered": self.ordered,
            "item_ids.position_at": self.position_at,
            "item_ids.place_of": self.place_of,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], *, verify: bool) -> Self:
        """Restore the ids from saved arrays."""
        keys = cls(*(arrays[f"item_ids.{name}"] for name in ("ordered", "position_at", "place_of")))
        _check_lengths(len(keys.ordered), keys.position_at, keys.place_of)
        if verify:
            ordered = keys.ordered
            if ordered.dtype.kind != "i" or (ordered[1:] <= ordered[:-1]).any():
                raise ValueError("item ids that do not ascend")
            _check_inverse(keys.position_at, keys.place_of)
        return keys


@final
class StrKeys(ItemKeys):
    """Ids that are strings, in a marisa trie: a few bytes per id, 8 for the positions, and no Python objects."""

    def __init__(
        self,
        keys: marisa_trie.Trie,
        position_of_key: IntArray,
        key_at: IntArray,
        mapped: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        self.keys = keys
        self.position_of_key = position_of_key
        self.key_at = key_at
        self.mapped = mapped  # keeps the memory of a mapped trie alive

    def __len__(self) -> int:
        return len(self.position_of_key)

    def find(self, ids: Int64Array | list[Any]) -> Int64Array:
        """Return the position of each id, -1 for unknown ids."""
        get = self.keys.get
        found = (get(item_id, -1) if isinstance(item_id, str) and _is_storable(item_id) else -1 for item_id in ids)
        key = np.fromiter(found, np.int64, len(ids))
        return np.where(key >= 0, self.position_of_key[key].astype(np.int64), -1)

    def at(self, positions: IntArray) -> list[Any]:
        """Return the ids at positions of shape (n,)."""
        return list(map(self.keys.restore_key, self.key_at[positions].tolist()))

    def joined(self, ids: Int64Array | list[Any]) -> "ItemKeys":
        """Return these ids and then new ones."""
        return make_keys([*self.at(np.arange(len(self))), *(ids.tolist() if isinstance(ids, np.ndarray) else ids)])

    def kept(self, positions: IntArray) -> "StrKeys":
        """Return the ids at some positions, in their order."""
        return _str_keys(marisa_trie.Trie(ids := self.at(positions)), ids)

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that hold the ids."""
        return {
            # As 64-bit words: marisa reads words, and a file keeps them aligned.
            "item_ids.marisa": np.frombuffer(self.keys.tobytes(), np.uint64),
            "item_ids.position_of_key": self.position_of_key,
            "item_ids.key_at": self.key_at,
        }

    def saved_arrays(self) -> dict[str, Array]:
        """Return the arrays that `from_arrays` takes: also the ids as text, from which the others can be proved."""
        texts = [item_id.encode() for ids in self.blocks() for item_id in ids]
        ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
        return self.arrays() | {"item_ids.text": np.frombuffer(b"".join(texts), np.uint8), "item_ids.ends": ends}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], *, verify: bool) -> Self:
        """Restore the ids from saved arrays; a mapped array stays mapped.

        marisa trusts the bytes of a trie: forged ones would end the process. With `verify`, the trie is built again
        from the ids as text, and the saved one is used if it has the same bytes, else (of another version of marisa)
        the new one. That takes about a second for a million ids.
        """
        mapped, rebuilt = arrays["item_ids.marisa"].view(np.uint8), None
        position_of_key, key_at = arrays["item_ids.position_of_key"], arrays["item_ids.key_at"]
        if verify:
            ids = _texts(arrays["item_ids.text"], arrays["item_ids.ends"])
            rebuilt = make_keys(ids)
            if not isinstance(rebuilt, cls):
                raise ValueError("item ids that are no texts")
            if rebuilt.keys.tobytes() != mapped.tobytes():
                return rebuilt
            if not np.array_equal(rebuilt.key_at, key_at) or not np.array_equal(
                rebuilt.position_of_key, position_of_key
            ):
                raise ValueError("positions that are not those of the item ids")
        keys = marisa_trie.Trie()
        keys.map(mapped)
        restored = cls(keys, position_of_key, key_at, mapped)
        _check_lengths(len(keys), restored.position_of_key, restored.key_at)
        return restored


def _texts(text: Array, ends: Array) -> list[str]:
    """Return the ids that stand one after the other in `text`, each up to its entry of `ends`."""
    if text.dtype != np.uint8 or ends.dtype != np.int64 or text.ndim != 1 or ends.ndim != 1 or not len(ends):
        raise ValueError("item ids that are no texts")
    if (np.diff(ends, prepend=0) < 0).any() or ends[-1] != len(text):
        raise ValueError("item ids that do not end one after the other")
    whole, first, ids = text.tobytes(), 0, []
    for last in ends.tolist():
        ids.append(whole[first:last].decode())
        first = last
    return ids


def make_keys(ids: Int64Array | list[Any]) -> ItemKeys:
    """Check ids (from `as_ids`), and return them as `IntKeys` or `StrKeys`.

    Raises
    ------
    InvalidTypeError
        If ids are neither all int nor all str.
    InvalidValueError
        If an id occurs twice, is an integer of more than 64 bits, or is a str that holds a NUL or is not valid UTF-8.
    """
    if isinstance(ids, np.ndarray):
        keys = _int_keys(ids)
        repeated = np.flatnonzero(keys.ordered[1:] == keys.ordered[:-1])
        if len(repeated):
            raise ids_repeat(keys.ordered[np.unique(repeated)].tolist())
        return keys
    check_id_types(ids)
    if ids and not isinstance(ids[0], str):
        raise InvalidValueError(
            f"an item id is too large: expected integers of 64 bits, got {max(ids, key=abs)}. Pass such ids as str."
        )
    unfit = next((item_id for item_id in ids if not _is_storable(item_id)), None)
    if unfit is not None:
        raise InvalidValueError(
            f"an item id cannot be stored: expected UTF-8 text without NUL, got {unfit!r}. Escape it."
        )
    trie = marisa_trie.Trie(ids)
    if len(trie) < len(ids):
        raise ids_repeat([item_id for item_id, count in Counter(ids).items() if count > 1])
    return _str_keys(trie, ids)


def _int_keys(ids: Int64Array) -> IntKeys:
    position_at = np.argsort(ids, kind="stable")
    ordered = ids[position_at]
    if _fits_32_bits(ordered):
        ordered = ordered.astype(np.int32)
    return IntKeys(ordered, position_at.astype(_dtype(len(ids))), _inverse(position_at))


def _fits_32_bits(ordered: Int64Array) -> bool:
    return len(ordered) == 0 or bool(-(2**31) <= ordered[0] and ordered[-1] < 2**31)


def _str_keys(trie: marisa_trie.Trie, ids: list[str]) -> StrKeys:
    key_at = np.fromiter(map(trie.get, ids), _dtype(len(ids)), len(ids))
    return StrKeys(trie, _inverse(key_at), key_at)


def _inverse(permutation: IntArray) -> IntArray:
    inverse = np.empty(len(permutation), _dtype(len(permutation)))
    inverse[permutation] = np.arange(len(permutation), dtype=inverse.dtype)
    return inverse


def _dtype(n_items: int) -> type[np.integer[Any]]:
    return np.uint32 if n_items < 2**32 else np.int64


def _check_lengths(n_ids: int, *positions: IntArray) -> None:
    if any(array.shape != (n_ids,) for array in positions):
        raise ValueError(f"{n_ids} item ids with positions of shape {[array.shape for array in positions]}")


def _check_inverse(one: IntArray, other: IntArray) -> None:
    """Raise unless two permutations undo each other."""
    n_ids = len(one)
    if one.dtype.kind not in "iu" or other.dtype.kind not in "iu":
        raise ValueError("positions that are no integers")
    if n_ids and (int(one.min()) < 0 or int(one.max()) >= n_ids or not np.array_equal(other[one], np.arange(n_ids))):
        raise ValueError("positions that are no permutation")


def _is_storable(item_id: str) -> bool:
    # marisa takes UTF-8 only, and cuts a key at NUL when it returns it.
    if "\0" in item_id:
        return False
    try:
        item_id.encode()
    except UnicodeEncodeError:
        return False
    return True
