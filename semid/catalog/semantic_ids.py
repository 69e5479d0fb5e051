"""A catalogue of semantic IDs: item id <-> codes <-> rank, for one view or several."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self, final

import numpy as np
import numpy.typing as npt

from semid.catalog.checks import by_view, compact, contained, different_lengths, listed, refuse_collisions, shown, title
from semid.catalog.item_keys import IntKeys, ItemKeys, StrKeys, as_ids, make_keys
from semid.errors import FormatError, InvalidValueError
from semid.io.persistence import read_folder, write_folder
from semid.trie import Trie
from semid.trie.checks import check_code_rows, check_sizes

__all__ = ["SemanticIds"]

CodeArray = npt.NDArray[np.unsignedinteger[Any]]
IntArray = npt.NDArray[np.int64]


class _Index(NamedTuple):
    """What the lookups of one view need besides its codes."""

    trie: Trie
    rank_at: IntArray  # (n_items,): rank of the item at each position
    position_at: IntArray  # (n_items,): position of the item of each rank


@final
class SemanticIds:
    """Items with one semantic ID each, or one per view.

    Parameters
    ----------
    item_ids : sequence of int or of str, length n_items
        The caller's own keys, each once.
    codes : array-like of shape (n_items, n_levels), integers; or mapping of view to such
        One row per item, no two alike within a view.
    codebook_sizes : sequence of int, or mapping of view to such, optional
        Number of codes of each level, of all views alike or of each; default: the largest code plus one. Give it if
        items may be added later.

    Attributes
    ----------
    views : tuple of str
        Empty for codes without views.
    generation : int
        Times the catalogue has changed since it was made or loaded.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If ids repeat or mix types, if rows of codes are alike, out of range, or not as many as ids.

    Examples
    --------
    >>> sids = SemanticIds(["ring", "bell", "book"], [[1, 2], [0, 3], [0, 2]])
    >>> sids
    SemanticIds(n_items=3, codebook_sizes=(2, 4), generation=0)
    >>> sids.codes_of(["book", "ring"])
    array([[0, 2],
           [1, 2]], dtype=uint8)
    >>> sids.items_of([[0, 3], [1, 3]])
    ['bell', None]
    >>> sids.items_at(sids.trie().walk([[0, 2]]))
    ['book']
    """

    def __init__(self, item_ids: Iterable[Any], codes: Any, *, codebook_sizes: Any = None) -> None:
        keys = make_keys(as_ids(item_ids))
        given = by_view(codes)
        views_differ = isinstance(codebook_sizes, Mapping)
        sizes = by_view(codebook_sizes) if views_differ else dict.fromkeys(given, codebook_sizes)
        if set(sizes) != set(given):
            raise InvalidValueError(
                f"codebook_sizes disagree with codes: expected views {list(given)}, got {list(sizes)}. "
                "Name the same views."
            )
        self._keys = keys
        self._codes: dict[str | None, CodeArray] = {}
        self._sizes: dict[str | None, tuple[int, ...]] = {}
        for view, rows in given.items():
            rows = check_code_rows(rows, name=title(view))
            self._sizes[view] = check_sizes(rows, sizes[view])
            self._codes[view] = compact(rows, self._sizes[view])
            if len(rows) != len(keys):
                raise different_lengths(view, len(keys), len(rows))
        for view in given:
            refuse_collisions(view, self._codes[view], self._sizes[view], keys)
        self._retired = {view: rows[:0] for view, rows in self._codes.items()}
        self._indexes: dict[str | None, _Index] = {}
        self.generation = 0

    def __repr__(self) -> str:
        sizes = self.codebook_sizes
        return f"SemanticIds(n_items={len(self)}, codebook_sizes={sizes}, generation={self.generation})"

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, item_id: object) -> bool:
        return bool(self._keys.find([item_id])[0] >= 0)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys.at(np.arange(len(self))))

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views; empty for codes without views."""
        return tuple(view for view in self._codes if view is not None)

    @property
    def n_levels(self) -> Any:
        """Number of levels: an int, or a dict from view to int."""
        return self._like_given({view: len(sizes) for view, sizes in self._sizes.items()})

    @property
    def codebook_sizes(self) -> Any:
        """Number of codes of each level: a tuple, or a dict from view to tuple."""
        return self._like_given(self._sizes)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of ids, codes and codebook sizes, in hexadecimal; the order of the items does not matter."""
        digest = hashlib.sha256()
        views = sorted(self._codes, key=str)
        order = self._index(views[0]).position_at
        for view in views:
            digest.update(repr((view, self._sizes[view])).encode())
            digest.update(np.ascontiguousarray(self._codes[view][order], "<u4").tobytes())
        for item_id in self._keys.at(order):
            text = repr(item_id).encode()
            digest.update(len(text).to_bytes(4, "little") + text)
        return digest.hexdigest()

    def codes_of(self, item_ids: Any, view: str | None = None, *, errors: str = "raise") -> Any:
        """Return the codes of items.

        Parameters
        ----------
        item_ids : sequence of n ids, or one id
        view : str, optional
            Required when there are several views.
        errors : {"raise", "ignore"}, default="raise"
            For unknown ids: raise, or return rows of -1 (the dtype is then int64).

        Returns
        -------
        codes : ndarray of shape (n, n_levels) or (n_levels,), unsigned
        """
        codes = self._codes[self._view(view)]
        positions = self._positions(item_ids, errors)
        if errors == "raise":
            return codes[positions]
        return np.where((positions >= 0)[..., None], codes[positions].astype(np.int64), -1)

    def ranks_of(self, item_ids: Any, view: str | None = None, *, errors: str = "raise") -> Any:
        """Return the ranks of items in the trie of a view, as `semid.generate` takes them in `exclude`.

        Parameters
        ----------
        item_ids : sequence of n ids, or one id
        view : str, optional
        errors : {"raise", "ignore"}, default="raise"
            For unknown ids: raise, or return -1.

        Returns
        -------
        ranks : ndarray of shape (n,), dtype int64; an int for one id
        """
        view = self._view(view)
        positions = self._positions(item_ids, errors)
        ranks = np.where(positions >= 0, self._index(view).rank_at[positions], -1)
        return int(ranks) if ranks.ndim == 0 else ranks

    def items_of(self, codes: Any, view: str | None = None) -> Any:
        """Return the item ids that codes belong to.

        Parameters
        ----------
        codes : array-like of shape (..., n_levels), integers
        view : str, optional

        Returns
        -------
        item_ids : list
            Nested as `codes` is, None for codes that are no item's; one id for a single row.
        """
        view = self._view(view)
        return self.items_at(self._index(view).trie.rank(codes), view)

    def items_at(self, ranks: Any, view: str | None = None) -> Any:
        """Return the item ids at ranks in the trie of a view, such as ``generate(...).items``.

        Parameters
        ----------
        ranks : array-like of shape (...), integers
            -1 marks an empty slot.
        view : str, optional

        Returns
        -------
        item_ids : list
            Nested as `ranks` is, None for -1; one id for a single rank.
        """
        ranks = np.asarray(ranks, np.int64)
        if ranks.size and (ranks.min() < -1 or ranks.max() >= len(self)):
            wrong = ranks[(ranks < -1) | (ranks >= len(self))].flat[0]
            raise InvalidValueError(
                f"rank out of range: expected -1 .. {len(self) - 1}, got {wrong}. Is it from another catalogue?"
            )
        found = np.full(ranks.shape, None, object)
        valid = ranks >= 0
        found[valid] = self._keys.at(self._index(self._view(view)).position_at[ranks[valid]])
        return found.tolist()

    def trie(self, view: str | None = None) -> Trie:
        """Return the trie of a view; built once, and again after a change."""
        return self._index(self._view(view)).trie

    def taken(self, view: str | None = None) -> CodeArray:
        """Return all codes that were ever published, those of removed items included, shape (n, n_levels)."""
        view = self._view(view)
        return np.concatenate([self._codes[view], self._retired[view]])

    def add(self, item_ids: Iterable[Any], codes: Any, *, reuse: bool = False) -> None:
        """Add items; nothing changes if one of them cannot be added.

        Parameters
        ----------
        item_ids : sequence of n ids, of the type that the catalogue has
        codes : array-like of shape (n, n_levels), integers; or mapping of view to such
        reuse : bool, default=False
            Allow codes that removed items had. A model was trained on those, and may still mean the removed item.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If an id is known or repeats, or codes are taken, retired, alike, out of range, or not as many as ids.
        """
        new_ids = as_ids(item_ids)
        known = np.flatnonzero(self._keys.find(new_ids) >= 0)
        if len(known):
            raise InvalidValueError(
                f"item ids are in the catalogue already: expected new ids, got {shown([new_ids[i] for i in known])}. "
                "Published IDs never move: remove the items first."
            )
        keys = make_keys(as_ids([*self, *listed(new_ids)]))
        given = by_view(codes)
        if set(given) != set(self._codes):
            raise InvalidValueError(
                f"codes have other views: expected {list(self._codes)}, got {list(given)}. Give codes for each view."
            )
        joined, retired = {}, dict(self._retired)
        for view in self._codes:
            rows = check_code_rows(given[view], name=title(view))
            rows = compact(rows, check_sizes(rows, self._sizes[view]))
            if len(rows) != len(new_ids):
                raise different_lengths(view, len(new_ids), len(rows))
            joined[view] = np.concatenate([self._codes[view], rows])
            refuse_collisions(view, joined[view], self._sizes[view], keys)
            if len(retired[view]):
                again = contained(rows, retired[view], self._sizes[view])
                if again.any() and not reuse:
                    raise InvalidValueError(
                        f"{title(view)} belonged to removed items: expected free rows, got {rows[again][0].tolist()} "
                        f"for {shown([new_ids[np.argmax(again)]])}. Choose other codes, or pass reuse=True."
                    )
                retired[view] = retired[view][~contained(retired[view], rows, self._sizes[view])]
        self._replace(keys, joined, retired)

    def remove(self, item_ids: Iterable[Any]) -> None:
        """Remove items; nothing changes if one of them is unknown.

        Their codes stay retired: `add` refuses them unless told to reuse them, as when the same item comes back.

        Raises
        ------
        InvalidValueError
            If an id is unknown, or no item would be left.
        """
        positions = np.unique(self._positions(as_ids(item_ids), "raise"))
        if len(positions) == len(self):
            raise InvalidValueError(
                f"the catalogue would be empty: expected fewer than {len(self)} ids, got all. Make a new one instead."
            )
        kept = np.delete(np.arange(len(self)), positions)
        retired = {view: np.concatenate([self._retired[view], rows[positions]]) for view, rows in self._codes.items()}
        codes = {view: rows[kept] for view, rows in self._codes.items()}
        self._replace(make_keys(as_ids(self._keys.at(kept))), codes, retired)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the catalogue to a folder."""
        views = list(self._codes)
        config = {"views": views, "codebook_sizes": [list(self._sizes[view]) for view in views]}
        arrays = self._keys.arrays()
        for number, view in enumerate(views):
            arrays |= {f"codes.{number}": self._codes[view], f"retired.{number}": self._retired[view]}
        card = f"# Semantic IDs\n\n{self!r}\n\nLoad them with `semid.SemanticIds.from_pretrained`."
        write_folder(folder, class_name="SemanticIds", config=config, arrays=arrays, card=card)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], *, mmap: bool = False) -> Self:
        """Read a catalogue from a folder that `save_pretrained` wrote.

        Parameters
        ----------
        folder : path-like
        mmap : bool, default=False
            Map the codes instead of reading them.

        Raises
        ------
        FormatError
            If the folder is missing, damaged, or holds something else.
        """
        config, arrays = read_folder(folder, class_name="SemanticIds", mmap=mmap)
        try:
            kind = IntKeys if "item_ids" in arrays else StrKeys
            sids = cls.__new__(cls)
            sids._keys = kind.from_arrays(arrays)
            views = config["views"]
            sids._sizes = {view: tuple(sizes) for view, sizes in zip(views, config["codebook_sizes"], strict=True)}
            sids._codes = {view: arrays[f"codes.{number}"] for number, view in enumerate(views)}
            sids._retired = {view: arrays[f"retired.{number}"] for number, view in enumerate(views)}
            shapes = {view: (len(sids._keys), len(sizes)) for view, sizes in sids._sizes.items()}
            if any(sids._codes[view].shape != shape for view, shape in shapes.items()):
                raise ValueError("codes and item ids do not match")
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise FormatError(
                f"{folder} is damaged: expected item ids and their codes, got {type(error).__name__}: {error}. "
                "Save the catalogue again."
            ) from error
        sids._indexes = {}
        sids.generation = 0
        return sids

    def _replace(
        self, keys: ItemKeys, codes: dict[str | None, CodeArray], retired: dict[str | None, CodeArray]
    ) -> None:
        self._keys, self._codes, self._retired, self._indexes = keys, codes, retired, {}
        self.generation += 1

    def _like_given(self, by_view: Mapping[str | None, Any]) -> Any:
        return by_view[None] if None in by_view else dict(by_view)

    def _view(self, view: str | None) -> str | None:
        if view is None and len(self._codes) == 1:
            return next(iter(self._codes))
        if view not in self._codes:
            expected = f"one of {self.views}" if self.views else "none, for these codes have no views"
            raise InvalidValueError(f"view is unknown: expected {expected}, got {view!r}. Correct the name.")
        return view

    def _index(self, view: str | None) -> _Index:
        index = self._indexes.get(view)
        if index is None:
            trie = Trie.from_codes(self._codes[view], codebook_sizes=self._sizes[view])
            if trie.n_items < len(self):
                raise FormatError(
                    f"{title(view)} were damaged: expected {len(self)} unique rows, got {trie.n_items}. Save again."
                )
            rank_at = trie.rank(self._codes[view])
            position_at = np.empty_like(rank_at)
            position_at[rank_at] = np.arange(len(rank_at))
            index = self._indexes[view] = _Index(trie, rank_at, position_at)
        return index

    def _positions(self, item_ids: Any, errors: str) -> Any:
        if errors not in {"raise", "ignore"}:
            raise InvalidValueError(f"errors is unknown: expected 'raise' or 'ignore', got {errors!r}.")
        single = isinstance(item_ids, str) or not np.iterable(item_ids)
        ids = as_ids([item_ids] if single else item_ids)
        positions = self._keys.find(ids)
        if errors == "raise" and (positions < 0).any():
            unknown = [ids[i] for i in np.flatnonzero(positions < 0)]
            raise InvalidValueError(
                f"item ids are unknown: expected ids of the catalogue, got {shown(unknown)}. "
                "Add the items, or pass errors='ignore'."
            )
        return positions[0] if single else positions
