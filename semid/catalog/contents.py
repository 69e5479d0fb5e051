"""What a catalogue holds in one generation; a change makes new contents and leaves the old ones as they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import numpy as np

from semid._arrays import CodeArray, Int64Array, IntArray
from semid._checks import as_array, as_ids, shown
from semid.catalog.checks import by_view, compact, contained, lexicographic_order, refuse_collisions
from semid.catalog.item_keys import ItemKeys, make_keys
from semid.catalog.messages import different_lengths, title
from semid.errors import InvalidValueError
from semid.trie import Trie
from semid.trie.checks import check_code_rows, sizes_of

__all__ = ["Contents", "make_contents"]


@final
@dataclass(frozen=True)
class Contents:
    """Items, their codes, and the codes of removed items; per view, under None without views.

    A reader that takes the contents once sees one generation, whatever other threads change meanwhile.

    Attributes
    ----------
    keys : ItemKeys
    codebook_sizes : dict of view to tuple of int
    codes : dict of view to ndarray of shape (n_items, n_levels), unsigned
    order : dict of view to ndarray of shape (n_items,), integers
        Position of each rank.
    retired : dict of view to ndarray of shape (n_retired, n_levels), unsigned
    generation, last_reuse : int
        As in `SemanticIds`.
    tries : dict of view to Trie
        Those that were asked for.
    """

    keys: ItemKeys
    codebook_sizes: dict[str | None, tuple[int, ...]]
    codes: dict[str | None, CodeArray]
    order: dict[str | None, IntArray]
    retired: dict[str | None, CodeArray]
    generation: int = 0
    last_reuse: int = 0
    tries: dict[str | None, Trie] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of ids, codes and their orders."""
        by_views = (self.codes, self.order, self.retired)
        arrays = [*self.keys.arrays().values(), *(array for by_view in by_views for array in by_view.values())]
        return sum(array.nbytes for array in arrays)

    def joined(self, item_ids: Any, codes: Any, *, reuse: bool) -> tuple[Self, dict[str | None, CodeArray]]:
        """Return contents with new items behind the others, and the codes of the new ones; for `SemanticIds.add`."""
        given = by_view(codes)
        if set(given) != set(self.codes):
            raise InvalidValueError(
                f"codes have other views: expected {list(self.codes)}, got {list(given)}. Give codes for each view."
            )
        if len(item_ids) == 0:
            return self, self._no_rows(given)
        keys = self.keys.joined(item_ids)
        added = {}
        for view, sizes in self.codebook_sizes.items():
            rows = check_code_rows(given[view], name=title(view))
            added[view] = compact(rows, sizes_of(rows, sizes))
            if len(rows) != len(item_ids):
                raise different_lengths(view, len(item_ids), len(rows))
        joined = {view: np.concatenate([self.codes[view], rows]) for view, rows in added.items()}
        order = order_by_codes(joined, self.codebook_sizes, keys)
        retired, reused = dict(self.retired), False
        for view, rows in added.items():
            if len(retired[view]) == 0:
                continue
            again = contained(rows, retired[view], self.codebook_sizes[view])
            if again.any() and not reuse:
                raise InvalidValueError(
                    f"{title(view)} belonged to removed items: expected free rows, got {rows[again][0].tolist()} "
                    f"for {shown([item_ids[np.argmax(again)]])}. Choose other codes, or pass reuse=True."
                )
            reused |= bool(again.any())
            retired[view] = retired[view][~contained(retired[view], rows, self.codebook_sizes[view])]
        generation = self.generation + 1
        contents = replace(
            self, keys=keys, codes=joined, order=order, retired=retired, generation=generation,
            last_reuse=generation if reused else self.last_reuse, tries={},
        )  # fmt: skip
        return contents, added

    def _no_rows(self, given: Mapping[str | None, Any]) -> dict[str | None, CodeArray]:
        """Return the codes of no items, if none are given."""
        for view, rows in given.items():
            if n_rows := len(np.atleast_1d(as_array(rows, title(view)))):
                raise different_lengths(view, 0, n_rows)
        return {view: rows[:0].copy() for view, rows in self.codes.items()}

    def without(self, positions: Int64Array) -> Self:
        """Return contents without the items at some positions, whose codes are retired."""
        kept = np.delete(np.arange(len(self.keys)), positions)
        keys = self.keys.kept(kept)
        codes = {view: rows[kept] for view, rows in self.codes.items()}
        retired = {view: np.concatenate([self.retired[view], rows[positions]]) for view, rows in self.codes.items()}
        order = order_by_codes(codes, self.codebook_sizes, keys)
        return replace(
            self, keys=keys, codes=codes, order=order, retired=retired, generation=self.generation + 1, tries={}
        )


def make_contents(item_ids: Any, codes: Any, codebook_sizes: Any) -> Contents:
    """Check what a new catalogue is given; see `SemanticIds`."""
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
        rows = check_code_rows(rows, name=title(view))
        sizes[view] = sizes_of(rows, wanted[view])
        checked[view] = compact(rows, sizes[view])
        if len(rows) != len(keys):
            raise different_lengths(view, len(keys), len(rows))
    retired = {view: rows[:0].copy() for view, rows in checked.items()}
    return Contents(keys, sizes, checked, order_by_codes(checked, sizes, keys), retired)


def order_by_codes(
    codes: dict[str | None, CodeArray], codebook_sizes: dict[str | None, tuple[int, ...]], keys: ItemKeys
) -> dict[str | None, IntArray]:
    """Return the position of each rank, per view; raise where two items collide."""
    order = {view: lexicographic_order(rows, codebook_sizes[view]) for view, rows in codes.items()}
    for view, rows in codes.items():
        refuse_collisions(view, rows, order[view], lambda position: keys.at(np.array([position]))[0])
    return order
