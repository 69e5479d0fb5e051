"""What is known about resolved codes: how far they can be from the least distortion, and how they were found."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from semid.collisions.nearest import Placement

__all__ = ["NOTHING_PROVEN", "NO_DISTORTION_ADDED", "Proof", "proof_of"]


class Proof(NamedTuple):
    """The fields of a `Resolution` that say so."""

    optimality_gap: float
    gap_over_all_ids: float
    n_beyond_candidates: int = 0
    n_widened: int = 0


NO_DISTORTION_ADDED = Proof(0.0, 0.0)
NOTHING_PROVEN = Proof(math.nan, math.nan)


def proof_of(placements: Sequence[Placement]) -> Proof:
    """Return what assignments that were solved one after the other prove together: the largest gap of them holds."""
    return Proof(
        optimality_gap=max(share(one.gap, one.total) for one in placements),
        gap_over_all_ids=max(share(one.gap_over_all_ids, one.total) for one in placements),
        n_beyond_candidates=sum(one.n_beyond_candidates for one in placements),
        n_widened=sum(one.n_widened for one in placements),
    )


def share(gap: float, total: float) -> float:
    """Return the gap as a share of the total cost; 0 where nothing costs anything."""
    return gap / total if total > 0 else 0.0
