"""What the resolver returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from semid._arrays import CodeArray

__all__ = ["Resolution"]


@final
@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Resolution:
    """Codes without collisions, and what they cost.

    Attributes
    ----------
    codes : ndarray of shape (n_items, n_levels), smallest unsigned dtype, or dict of such arrays, view -> codes
        Policy "suffix" appends one level.
    codebook_sizes : tuple of int
        Per level of `codes`.
    n_moved : int
        Items whose codes differ from the given ones, in any view; with policy "suffix" on the quantizer's own levels.
        May exceed `n_collisions_before`: policy "nearest" makes the distortion least, not the number of moves.
    distortion_before, distortion_after : float
        Mean squared distance between embedding and decoded codes, without weights. For several views: in the
        standardised space, summed over the views.
    optimality_gap : float
        Certified bound on ``(cost - least cost) / cost``, where cost is the weighted sum of squared distances of the
        items that got one of their candidates, and the least one is over all ways to give these items IDs among their
        candidates: 0 apart from rounding. For several views the largest one of the assignments solved one after the
        other. Policy "suffix" adds no distortion: 0. Policy "sinkhorn" proves nothing: nan.
    gap_over_all_ids : float
        The same for all items over all IDs there are, listed or not. It holds if the beam search missed no ID that is
        nearer to an item than the last one it listed; complete lists (up to 2^20 pairs of item and ID) miss none.
    n_collisions_before, n_collisions_after : int
        Items that are too many for their ID, ``n_items - n_unique`` for capacity 1; published IDs count. Summed over
        views.
    n_beyond_candidates : int
        Items that none of their candidates had room for, and that got a free ID near in the prefix tree. Summed over
        views.
    n_widened : int
        Items whose first list was too short, and that got a longer one; equal items that share an ID count once. Summed
        over the assignments. 0 where an auction of all IDs takes the place of the lists.
    """

    codes: CodeArray | Mapping[str, CodeArray]
    codebook_sizes: tuple[int, ...]
    n_moved: int
    distortion_before: float
    distortion_after: float
    optimality_gap: float
    gap_over_all_ids: float
    n_collisions_before: int
    n_collisions_after: int
    n_beyond_candidates: int
    n_widened: int

    def __repr__(self) -> str:
        views = list(self.codes.values()) if isinstance(self.codes, Mapping) else [self.codes]
        sizes = " x ".join(str(size) for size in self.codebook_sizes)
        return (
            f"Resolution({len(views[0])} items, {sizes} codes: "
            f"{self.n_collisions_before} -> {self.n_collisions_after} collisions, {self.n_moved} moved, "
            f"distortion {self.distortion_before:.6g} -> {self.distortion_after:.6g}, "
            f"gap {self.optimality_gap:.1e} over candidates, {self.gap_over_all_ids:.1e} over all IDs)"
        )
