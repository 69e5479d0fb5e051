"""`semid.resolve`: codes to semantic IDs, one per item."""

from collections.abc import Mapping
from typing import Any

from semid._checks import check_quantizer, check_view_names, has_member
from semid.collisions.checks import check_capacity, check_limit, check_policy
from semid.collisions.one_view import resolve_one_view
from semid.collisions.protocols import ResolvableQuantizer, ResolvableViews, members_of
from semid.collisions.result import Resolution
from semid.collisions.several_views import resolve_several_views
from semid.errors import InvalidTypeError
from semid.io.batches import check_embeddings
from semid.io.matrices import drop_pages

__all__ = ["resolve"]


def resolve(
    quantizer: Any,
    X: Any,
    codes: Any = None,
    *,
    capacity: int = 1,
    policy: str = "nearest",
    taken: Any = None,
    weights: Any = None,
    duplicates: str = "separate",
    max_level_moved: int | None = None,
    item_ids: Any = None,
) -> Resolution:
    """Give every item an ID that no other item has, at the least distortion.

    Policy "nearest" minimises ``sum_i weights[i] * ||X[i] - decode(codes[i])||^2`` over all ways to give the items IDs
    with at most `capacity` items each. It is exact on the IDs that a beam search lists per item, by successive
    shortest augmenting paths: all IDs while there are at most 2^20 pairs of item and ID, else 16 to 64, and more for
    items whose list the prices of the solution show to be too short. Where more than half of all IDs are needed, an
    auction of all IDs takes its place, which stops when it is proven to be within 0.1 % of the least cost. The result
    has no collisions whenever the items fit at all. Items are taken in an order that follows from their embeddings, so
    that the order of rows decides nothing but which of several equal items gets which of their IDs, and with `item_ids`
    not even that.

    It is the distortion that is least, not the number of moves: more items move than collide. Items without a collision
    move, too, where that search finds a nearer ID than the greedy encode did, and where they make room for an item that
    would lose more by going elsewhere.

    Policy "suffix" appends a level that counts the items of a collision group, 0 for the first; TIGER
    (arXiv:2305.05065), section 3.1. It changes no code, and the IDs of a group have nothing to do with distance.

    Policy "sinkhorn" is the repair published with GenSAR (arXiv:2504.05730), to compare with: up to 20 times, the items
    of each collision group get new last codes by balanced optimal transport among themselves. It may leave collisions,
    which `n_collisions_after` counts, and equal items always collide; it proves nothing, so that the gaps are ``nan``.

    Parameters
    ----------
    quantizer : Quantizer or SharedSpecificKMeans
        Fitted.
    X : ndarray of shape (n_items, dim), dtype float32, or dict of view -> such an array
        Also whatever else the quantizer encodes: memory maps, paths, tensors.
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype, or dict of view -> such an array, optional
        What to count moves, distortion and collisions against. Policy "suffix" extends these codes. Default:
        ``quantizer.encode(X)``.
    capacity : int, default 1
        How many items may share an ID, for policy "nearest".
    policy : {"nearest", "suffix", "sinkhorn"}, default "nearest"
    taken : ndarray of shape (n_taken, n_levels), unsigned integer dtype, or dict of view -> such an array, optional
        Published IDs. Each uses one place of its ID, and never moves. For policy "suffix" with the suffix, so of shape
        (n_taken, n_levels + 1): new items count on behind the published ones of their group.
    weights : ndarray of shape (n_items,), dtype float64, optional
        Factors >= 0, of which only the ratios count, for policy "nearest": of two items that want one ID, the heavy one
        is more likely to get it.
    duplicates : {"separate", "share"}, default "separate"
        With "share", items whose embeddings are equal get one ID together, on purpose: equal once they are rounded to
        the float32 that quantizers work with, and with several views in all of these, as the quantizer standardises
        them. Rows of float64 that differ by less than float32 can tell, about one part in 10^7, are equal. They use one
        place, they count as one item wherever collisions are counted, and their weights add up. Duplicates of published
        items are not known as such: `taken` has no embeddings.
    max_level_moved : int, optional
        How many levels, from the last, may change, for policy "nearest": with 1, an item keeps all its `codes` but the
        last. Default: all may change.
    item_ids : sequence of n_items int or str, each once, optional
        Decide, for policy "nearest", which of several equal items gets which of their IDs. Read as `SemanticIds` reads
        them. Default: the order of rows.

    Returns
    -------
    resolution : Resolution
        With fields `codes`, `codebook_sizes`, `n_moved`, `distortion_before`, `distortion_after`, `optimality_gap`,
        `gap_over_all_ids`, `n_collisions_before`, `n_collisions_after`, `n_beyond_candidates` and `n_widened`.

    Raises
    ------
    InvalidValueError
        If there are more items than places (with `max_level_moved`: behind some first codes), an option has a wrong
        value or shape, codes are out of range, `taken` collides with itself, or views disagree in their items or their
        shared codes.
    InvalidTypeError
        If `quantizer` is not a quantizer, a dict is passed for one of one view or the other way round, or an option has
        a wrong type.

    Notes
    -----
    For a shared-specific quantizer the shared codes stay common to all views, and the IDs of every view are unique. A
    shared prefix with more items than the specific levels can tell apart sends items to other shared prefixes, in all
    views together and at the least total cost; then every view's specific codes are assigned inside the prefixes.

    Examples
    --------
    >>> import numpy as np, semid
    >>> X = np.random.default_rng(0).standard_normal((500, 8), dtype=np.float32)
    >>> quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=32).fit(X)
    >>> ids = semid.resolve(quantizer, X)
    >>> len(np.unique(ids.codes, axis=0)), ids.n_collisions_after
    (500, 0)
    """
    several = has_member(quantizer, "specific_quantizers")
    check_quantizer(quantizer, members_of(ResolvableViews if several else ResolvableQuantizer))
    capacity = check_capacity(capacity)
    check_policy(
        policy, capacity=capacity, weights=weights, taken=taken, duplicates=duplicates, item_ids=item_ids,
        max_level_moved=max_level_moved,
    )  # fmt: skip
    options: dict[str, Any] = {
        "capacity": capacity, "policy": policy, "taken": taken, "weights": weights, "duplicates": duplicates,
        "max_level_moved": check_limit(max_level_moved, n_levels=len(quantizer.codebook_sizes)),
        "item_ids": item_ids,
    }  # fmt: skip
    if several:
        check_view_names(X, quantizer.views, name="X")
        return resolve_several_views(quantizer, X, codes, **options)
    if isinstance(X, Mapping):
        raise InvalidTypeError(
            f"X has a wrong type: expected one array for {type(quantizer).__name__}, got a dict of views {list(X)}. "
            "Pass one view, or a quantizer of several views such as SharedSpecificKMeans."
        )
    X = check_embeddings(X)
    drop_pages(X)
    return resolve_one_view(quantizer, X, codes, **options)
