"""The calls of a catalogue that need a quantizer: free IDs for new items, and drift of the published ones."""

from typing import TYPE_CHECKING, Any

import numpy as np

from semid.catalog.checks import by_view
from semid.catalog.drift import measure_drift
from semid.collisions import resolve
from semid.errors import InvalidTypeError, InvalidValueError
from semid.io.batches import open_embeddings

if TYPE_CHECKING:
    from semid.catalog.semantic_ids import SemanticIds

__all__ = ["drift_of", "free_codes"]


def free_codes(
    sids: "SemanticIds", item_ids: Any, quantizer: Any, X: Any, *, weights: Any = None, reuse: bool = False
) -> Any:
    """Return codes that no item has, at the least distortion: an array, or one per view."""
    suffix = _check_quantizer(sids, quantizer)
    if len(item_ids) == 0:
        return _codes_of_nothing(sids, X)
    options: dict[str, Any] = {"policy": "suffix"} if suffix else {"policy": "nearest", "item_ids": item_ids}
    resolution = resolve(quantizer, X, taken=_taken(sids, reuse=reuse), weights=weights, **options)
    return resolution.codes


def drift_of(sids: "SemanticIds", item_ids: Any, quantizer: Any, X: Any, previous: Any) -> Any:
    """Return how far IDs are from new embeddings: a `Drift`, or one per view."""
    suffix = _check_quantizer(sids, quantizer)
    n_levels = slice(0, -1 if suffix else None)
    nearest: tuple[Any, Any] = quantizer.encode(X), None if previous is None else quantizer.encode(previous)
    if not sids.views:
        return measure_drift(quantizer, sids.codes_of(item_ids)[:, n_levels], X, previous, nearest)
    views = {}
    for view in sids.views:
        before = (None, None) if previous is None else (previous[view], nearest[1][view])
        published = sids.codes_of(item_ids, view)[:, n_levels]
        of_view = _OneView(quantizer, view)
        views[view] = measure_drift(of_view, published, X[view], before[0], (nearest[0][view], before[1]))
    return views


def _codes_of_nothing(sids: "SemanticIds", X: Any) -> Any:
    """Return no codes, if there are no embeddings either; `resolve` takes at least one item."""
    for embeddings in by_view(X).values():
        if n_rows := len(open_embeddings(embeddings, min_items=0)):
            raise InvalidValueError(
                f"X and item_ids have different lengths: expected 0 rows, got {n_rows}. Give one row per id."
            )
    return {view: sids.taken(view)[:0] for view in sids.views} if sids.views else sids.taken()[:0]


class _OneView:
    """Decodes one view of a quantizer of several."""

    def __init__(self, quantizer: Any, view: str) -> None:
        self.quantizer, self.view = quantizer, view

    def decode(self, codes: Any) -> Any:
        return self.quantizer.decode(dict.fromkeys(self.quantizer.views, codes))[self.view]


def _check_quantizer(sids: "SemanticIds", quantizer: Any) -> bool:
    """Raise if a quantizer cannot have made the codes; return whether they end in a suffix level."""
    if not hasattr(quantizer, "encode") or not hasattr(quantizer, "decode"):
        raise InvalidTypeError(
            f"quantizer has a wrong type: expected a quantizer, got {type(quantizer).__name__}. "
            "Pass the one that made the codes."
        )
    views = tuple(getattr(quantizer, "views", ()))
    if set(views) != set(sids.views):
        raise InvalidValueError(
            f"the quantizer has other views: expected {sids.views}, got {views}. Pass the one that made the codes."
        )
    expected = {tuple(sizes) for sizes in by_view(sids.codebook_sizes).values()}
    sizes = tuple(quantizer.codebook_sizes)
    if {sizes} == expected:
        return False
    if {sizes} == {longer[:-1] for longer in expected}:
        return True
    raise InvalidValueError(
        f"the quantizer does not fit: expected codebook sizes {' or '.join(map(str, sorted(expected)))}, got {sizes}. "
        "Pass the one that made the codes, and give codebook_sizes when making the catalogue."
    )


def _taken(sids: "SemanticIds", *, reuse: bool) -> Any:
    if not sids.views:
        return sids.taken(retired=not reuse)
    # Row i of all views has to be one item, or at least to begin with the same shared codes: live rows do, and sorted
    # retired rows do unless an ID was reused in one view alone.
    taken = {}
    for view in sids.views:
        retired = sids.taken(view)[len(sids) :]
        retired = retired[:0] if reuse else retired[np.lexsort(retired.T[::-1])]
        taken[view] = np.concatenate([sids.taken(view, retired=False), retired])
    if len({len(rows) for rows in taken.values()}) > 1:
        raise InvalidValueError(
            f"retired IDs differ among the views: expected as many in each, got "
            f"{ {view: len(rows) - len(sids) for view, rows in taken.items()} }. Some were reused in one view alone: "
            "pass codes, or reuse=True."
        )
    return taken
