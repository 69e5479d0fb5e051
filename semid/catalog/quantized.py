"""The calls of a catalogue that need a quantizer: free IDs for new items, and the drift of published ones."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np

from semid._arrays import Array, CodeArray, FloatArray, Int64Array
from semid._checks import check_quantizer
from semid.catalog.contents import Contents, as_given, by_view, check_one_row_per_id
from semid.collisions import resolve
from semid.errors import InvalidValueError
from semid.io.batches import check_embeddings, open_embeddings
from semid.io.persistence import checksum_of
from semid.metrics.distortion import decoded_distortion

__all__ = ["Drift", "check_fit", "check_known", "drift_of", "free_codes", "quantizer_fingerprint", "sizes_for_codes"]


def free_codes(contents: Contents, item_ids: Any, quantizer: Any, X: Any, *, weights: Any, reuse: bool) -> Any:
    """Return codes that no item has, at the least distortion: an array, or one per view."""
    has_suffix = check_fit(contents, quantizer)
    check_known(contents, quantizer)
    if len(item_ids) == 0:  # `resolve` takes at least one item
        for embeddings in by_view(X).values():
            check_one_row_per_id("X", open_embeddings(embeddings, min_items=0), n_ids=0)
        return as_given({view: rows[:0] for view, rows in contents.codes.items()})
    options: dict[str, Any] = {"policy": "suffix"} if has_suffix else {"policy": "nearest", "item_ids": item_ids}
    return resolve(quantizer, X, taken=_taken(contents, reuse=reuse), weights=weights, **options).codes


def sizes_for_codes(codes: Any, codebook_sizes: Any, quantizer: Any) -> Any:
    """Return the codebook sizes of a new catalogue: those given, else those of the quantizer if it has all levels."""
    if codebook_sizes is not None or quantizer is None:
        return codebook_sizes
    sizes = tuple(quantizer.codebook_sizes)
    n_levels = {np.shape(rows)[-1] for rows in by_view(codes).values() if np.ndim(rows) == 2}
    return sizes if n_levels == {len(sizes)} else None


def quantizer_fingerprint(quantizer: Any) -> str:
    """Return the fingerprint of a quantizer; of one that has none, that of its codebooks."""
    own = getattr(quantizer, "fingerprint", None)
    if isinstance(own, str):
        return own
    codebooks = quantizer.codebooks
    by_level = codebooks if isinstance(codebooks, Mapping) else {"": codebooks}
    arrays = {
        f"{view}.{level}": np.asarray(book) for view, books in by_level.items() for level, book in enumerate(books)
    }
    return checksum_of(type(quantizer).__name__, arrays)[:32]


def check_known(contents: Contents, quantizer: Any) -> None:
    """Raise if the codes were made by another quantizer; warn if nobody has said by which."""
    if contents.quantizer is None:
        warnings.warn(
            "the catalogue does not know which quantizer made its codes: expected SemanticIds(.., quantizer=..), got "
            "codes alone. New codes of another fit would mean something else; call set_quantizer if this is the one.",
            UserWarning,
            stacklevel=4,
        )
        return
    found = quantizer_fingerprint(quantizer)
    if found != contents.quantizer:
        raise InvalidValueError(
            f"another quantizer made the codes: expected fingerprint {contents.quantizer}, got {found}. Load the one "
            "of that fit; after a refit or a conversion, whose codes mean the same, call set_quantizer first."
        )


def check_fit(contents: Contents, quantizer: Any) -> bool:
    """Raise if a quantizer cannot have made the codes; return whether they end in a suffix level."""
    check_quantizer(quantizer, ("encode", "decode", "codebook_sizes"))
    views = tuple(getattr(quantizer, "views", ()))
    if set(views) != set(contents.views):
        raise InvalidValueError(
            f"the quantizer has other views: expected {contents.views}, got {views}. Pass the one that made the codes."
        )
    expected = set(contents.codebook_sizes.values())
    sizes = tuple(quantizer.codebook_sizes)
    if {sizes} == expected:
        return False
    if {sizes} == {longer[:-1] for longer in expected}:
        return True
    raise InvalidValueError(
        f"the quantizer does not fit: expected codebook sizes {' or '.join(map(str, sorted(expected)))}, got {sizes}. "
        "Pass the one that made the codes, and give codebook_sizes when making the catalogue."
    )


def _taken(contents: Contents, *, reuse: bool) -> Any:
    """Return the codes that no new item may have."""
    if reuse:
        return as_given(contents.codes)
    # In all views, row i must be the same item, or at least begin with the same shared codes. Live rows do; sorted
    # retired rows do, too, unless an ID was reused in one view alone.
    n_retired = {view: len(rows) for view, rows in contents.retired.items()}
    if len(set(n_retired.values())) > 1:
        raise InvalidValueError(
            f"retired IDs differ among the views: expected as many in each, got {n_retired}. Some were reused in one "
            "view alone: pass codes, or reuse=True."
        )
    ordered = {view: rows[np.lexsort(rows.T[::-1])] for view, rows in contents.retired.items()}
    return as_given({view: np.concatenate([rows, ordered[view]]) for view, rows in contents.codes.items()})


@final
@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far the published IDs of one view are from the nearest codes of new embeddings.

    Attributes
    ----------
    n_items : int
    n_changed : int
        Items whose nearest codes have changed: they differ from those of the previous embeddings, or from the
        published ID if no previous embeddings were given.
    n_changed_by_level : tuple of int
        The same items, counted by the first level at which the codes differ; level 0 means another part of the space.
    distortion_before : float
        Mean squared distance between the previous embeddings and the decoded published IDs; NaN without them.
    distortion_after : float
        The same for the new embeddings.
    distortion_nearest : float
        Mean squared distance between the new embeddings and their decoded nearest codes, free or not. New IDs from a
        greedy encode cannot be better.
    """

    n_items: int
    n_changed: int
    n_changed_by_level: tuple[int, ...]
    distortion_before: float
    distortion_after: float
    distortion_nearest: float


def drift_of(contents: Contents, positions: Int64Array, quantizer: Any, X: Any, previous: Any) -> Any:
    """Return how far the IDs at some positions are from new embeddings: a `Drift`, or one per view."""
    n_levels = slice(-1) if check_fit(contents, quantizer) else slice(None)
    check_known(contents, quantizer)
    new = by_view(X), by_view(quantizer.encode(X))
    old = (by_view(previous), by_view(quantizer.encode(previous))) if previous is not None else None
    return as_given(
        {
            view: _drift(
                rows[positions][:, n_levels],
                (new[0][view], new[1][view]),
                None if old is None else (old[0][view], old[1][view]),
                quantizer.decode if view is None else partial(_decode_view, quantizer, view),
            )
            for view, rows in contents.codes.items()
        }
    )


def _decode_view(quantizer: Any, view: str, codes: Array) -> Any:
    return quantizer.decode(dict.fromkeys(quantizer.views, codes))[view]


def _drift(
    published: CodeArray, new: tuple[Any, Array], old: tuple[Any, Array] | None, decode: Callable[[Any], FloatArray]
) -> Drift:
    """Compare published codes with the embeddings of one view and their nearest codes, new and old."""
    X, nearest = check_embeddings(new[0]), new[1]
    check_one_row_per_id("X", X, n_ids=len(published))
    before, reference = np.nan, published
    if old is not None:
        previous, reference = check_embeddings(old[0], name="previous", dim=X.shape[1]), old[1]
        check_one_row_per_id("previous", previous, n_ids=len(published))
        before = decoded_distortion(previous, published, decode)
    differs = nearest != reference
    changed = differs.any(axis=1)
    first = np.bincount(differs[changed].argmax(axis=1), minlength=published.shape[1])
    return Drift(
        n_items=len(published),
        n_changed=int(changed.sum()),
        n_changed_by_level=tuple(first.tolist()),
        distortion_before=float(before),
        distortion_after=decoded_distortion(X, published, decode),
        distortion_nearest=decoded_distortion(X, nearest, decode),
    )
