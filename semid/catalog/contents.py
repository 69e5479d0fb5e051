"""What a catalogue holds in one generation; a change makes new contents and leaves the old ones as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import numpy as np

from semid._arrays import BoolArray, CodeArray, Int64Array, IntArray
from semid._checks import as_array, as_ids, code_dtype, shown
from semid.catalog.item_keys import ItemKeys, make_keys
from semid.errors import InvalidValueError
from semid.trie import Trie
from semid.trie.checks import check_code_rows, sizes_of

__all__ = ["Contents", "as_given", "by_view", "check_one_row_per_id", "make_contents", "title"]


@final
@dataclass(frozen=True)
class Contents:
    """Items, their codes, and the codes of removed items; by view, under None if there are no views.

    A reader that takes the contents once sees one generation, even if another thread changes the catalogue.

    Attributes
    ----------
    keys : ItemKeys
    codebook_sizes : dict of view to tuple of int
    codes : dict of view to ndarray of shape (n_items, n_levels), unsigned
    order : dict of view to ndarray of shape (n_items,), integers
        Position of the item at each rank.
    retired : dict of view to ndarray of shape (n_retired, n_levels), unsigned
    generation, last_reuse : int
        As in `SemanticIds`.
    quantizer : str or None
        Fingerprint of the quantizer that made the codes, where it is known.
    tries : dict of view to Trie
        The tries built so far.
    """

    keys: ItemKeys
    codebook_sizes: dict[str | None, tuple[int, ...]]
    codes: dict[str | None, CodeArray]
    order: dict[str | None, IntArray]
    retired: dict[str | None, CodeArray]
    generation: int = 0
    last_reuse: int = 0
    quantizer: str | None = None
    tries: dict[str | None, Trie] = field(default_factory=dict)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views; empty for codes without views."""
        return tuple(view for view in self.codes if view is not None)

    def view_named(self, view: str | None) -> str | None:
        """Return the view that a caller means: None stands for the only one."""
        if view is None and len(self.codes) == 1:
            return next(iter(self.codes))
        if not isinstance(view, str) or view not in self.codes:
            wrong, remedy = ("missing", "Name one of them.") if view is None else ("unknown", "Correct the name.")
            expected = f"one of {self.views}" if self.views else "none, because these codes have no views"
            raise InvalidValueError(f"view is {wrong}: expected {expected}, got {view!r}. {remedy}")
        return view

    @property
    def nbytes(self) -> int:
        """Bytes of ids, codes and their orders."""
        by_views = (self.codes, self.order, self.retired)
        arrays = [*self.keys.arrays().values(), *(array for by_view in by_views for array in by_view.values())]
        return sum(array.nbytes for array in arrays)

    def joined(self, item_ids: Any, codes: Any, *, reuse: bool) -> tuple[Self, dict[str | None, CodeArray]]:
        """Return contents with new items after the others, and the codes of the new items; for `SemanticIds.add`."""
        given = by_view(codes)
        if set(given) != set(self.codes):
            raise InvalidValueError(
                f"codes have other views: expected {list(self.codes)}, got {list(given)}. Give codes for each view."
            )
        if len(item_ids) == 0:
            for view, rows in given.items():
                check_one_row_per_id(title(view), np.atleast_1d(as_array(rows, title(view))), n_ids=0)
            return self, {view: rows[:0].copy() for view, rows in self.codes.items()}
        keys = self.keys.joined(item_ids)
        added = {view: _rows_of(given[view], sizes, view)[0] for view, sizes in self.codebook_sizes.items()}
        for view, rows in added.items():
            check_one_row_per_id(title(view), rows, n_ids=len(item_ids))
        joined = {view: np.concatenate([self.codes[view], rows]) for view, rows in added.items()}
        order = _unique_order(joined, self.codebook_sizes, keys)
        retired, reused = dict(self.retired), False
        for view, rows in added.items():
            if len(retired[view]) == 0:
                continue
            again = _contained(rows, retired[view], self.codebook_sizes[view])
            if again.any() and not reuse:
                raise InvalidValueError(
                    f"{title(view)} belonged to removed items: expected free rows, got {rows[again][0].tolist()} "
                    f"for {shown([item_ids[np.argmax(again)]])}. Choose other codes, or pass reuse=True."
                )
            reused |= bool(again.any())
            retired[view] = retired[view][~_contained(retired[view], rows, self.codebook_sizes[view])]
        generation = self.generation + 1
        contents = replace(
            self, keys=keys, codes=joined, order=order, retired=retired, generation=generation,
            last_reuse=generation if reused else self.last_reuse, tries={},
        )  # fmt: skip
        return contents, added

    def without(self, positions: Int64Array) -> Self:
        """Return contents without the items at some positions, whose codes are retired."""
        kept = np.delete(np.arange(len(self.keys)), positions)
        keys = self.keys.kept(kept)
        codes = {view: rows[kept] for view, rows in self.codes.items()}
        retired = {view: np.concatenate([self.retired[view], rows[positions]]) for view, rows in self.codes.items()}
        order = _unique_order(codes, self.codebook_sizes, keys)
        return replace(
            self, keys=keys, codes=codes, order=order, retired=retired, generation=self.generation + 1, tries={}
        )


def make_contents(item_ids: Any, codes: Any, codebook_sizes: Any) -> Contents:
    """Check the arguments of a new catalogue; see `SemanticIds`."""
    keys = make_keys(as_ids(item_ids))
    given = by_view(codes)
    wanted = by_view(codebook_sizes) if isinstance(codebook_sizes, Mapping) else dict.fromkeys(given, codebook_sizes)
    if set(wanted) != set(given):
        raise InvalidValueError(
            f"codebook_sizes disagree with codes: expected views {list(given)}, got {list(wanted)}. "
            "Name the same views."
        )
    sizes, checked = {}, {}
    for view, rows in given.items():
        checked[view], sizes[view] = _rows_of(rows, wanted[view], view)
        check_one_row_per_id(title(view), checked[view], n_ids=len(keys))
    retired = {view: rows[:0].copy() for view, rows in checked.items()}
    return Contents(keys, sizes, checked, _unique_order(checked, sizes, keys), retired)


def by_view(given: Any) -> dict[str | None, Any]:
    """Return what was given by view; under None if it was given without views."""
    if not isinstance(given, Mapping):
        return {None: given}
    if not given or not all(isinstance(view, str) for view in given):
        raise InvalidValueError(f"views are wrong: expected names, got {list(given)}. Name at least one view by a str.")
    return dict(given)


def as_given(by_view: Mapping[str | None, Any]) -> Any:
    """Undo `by_view`: return a dict of view to value, or the one value if there are no views."""
    return by_view[None] if None in by_view else dict(by_view)


def title(view: str | None) -> str:
    """Return what messages call the codes of a view."""
    return "codes" if view is None else f"codes of view {view!r}"


def check_one_row_per_id(name: str, rows: Any, *, n_ids: int) -> None:
    """Raise unless there is one row per item id."""
    if len(rows) != n_ids:
        raise InvalidValueError(
            f"{name} and item_ids have different lengths: expected {n_ids} rows, got {len(rows)}. Give one row per id."
        )


def _rows_of(codes: Any, codebook_sizes: Any, view: str | None) -> tuple[CodeArray, tuple[int, ...]]:
    """Return the codes of a view as a new array in the smallest unsigned dtype and in C order, and their sizes."""
    rows = check_code_rows(codes, name=title(view))
    sizes = sizes_of(rows, codebook_sizes)
    return np.array(rows, code_dtype(max(sizes)), order="C"), sizes


def _unique_order(
    codes: dict[str | None, CodeArray], codebook_sizes: dict[str | None, tuple[int, ...]], keys: ItemKeys
) -> dict[str | None, IntArray]:
    """Return the position of the item at each rank, by view; raise if two items of a view have the same codes."""
    order = {view: lexicographic_order(rows, codebook_sizes[view]) for view, rows in codes.items()}
    for view, rows in codes.items():
        ordered = rows[order[view]]
        alike = np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1))
        if len(alike):
            first, second = keys.at(order[view][alike[0] : alike[0] + 2])
            raise InvalidValueError(
                f"{title(view)} collide: expected unique rows, got {ordered[alike[0]].tolist()} for {first!r} and "
                f"{second!r} ({len(alike)} such pairs). Make them unique with semid.resolve."
            )
    return order


def lexicographic_order(codes: CodeArray, codebook_sizes: Sequence[int]) -> IntArray:
    """Return the row at each rank, shape (n_items,), in the smaller of uint32 and int64; equal rows keep their order.

    Rows are packed into one key of 64 bits if they fit.
    """
    bits = [max(1, (size - 1).bit_length()) for size in codebook_sizes]
    if sum(bits) > 64:
        order = np.lexsort(codes.T[::-1])
    else:
        key: CodeArray = np.zeros(len(codes), np.uint32 if sum(bits) <= 32 else np.uint64)
        for level, n_bits in enumerate(bits):
            key <<= n_bits % (8 * key.itemsize)  # one level as wide as the key: nothing to make room for
            key |= codes[:, level].astype(key.dtype)
        order = np.argsort(key, kind="stable")
    return order.astype(np.uint32 if len(codes) < 2**32 else np.int64)


def _contained(rows: CodeArray, others: CodeArray, codebook_sizes: Sequence[int]) -> BoolArray:
    """Tell which rows are among others; neither array repeats a row."""
    found: BoolArray = Trie.from_codes(others, codebook_sizes=codebook_sizes).rank(rows) >= 0
    return found
