"""Moves in the last levels only: every item keeps the first codes that it has."""

import math
from typing import Any, final

import numpy as np
import numpy.typing as npt

from semid.collisions.keys import IntArray
from semid.collisions.nearest import Placement, place_nearest
from semid.collisions.protocols import ResolvableQuantizer
from semid.collisions.space import additive_space
from semid.errors import InvalidTypeError, InvalidValueError
from semid.io.arrays import CodeArray
from semid.quantizers.search import build_tables, decode_codes, search_codes

__all__ = ["check_max_level_moved", "place_in_last_levels"]


@final
class LastLevels:
    """The quantizer of what the first codes leave over."""

    def __init__(self, codebooks: tuple[npt.NDArray[np.float32], ...]) -> None:
        self.codebooks = codebooks
        self.codebook_sizes = tuple(map(len, codebooks))
        self._tables = build_tables(codebooks)

    def candidates(self, X: Any, *, count: int, beam: int) -> tuple[CodeArray, npt.NDArray[np.float32]]:
        return search_codes(X, self._tables, beam=beam, count=count)

    def encode(self, X: Any) -> CodeArray:
        return self.candidates(X, count=1, beam=1)[0][:, 0]

    def decode(self, codes: Any) -> npt.NDArray[np.float32]:
        return decode_codes(codes, self.codebooks)


def check_max_level_moved(value: Any, *, n_levels: int) -> int:
    """Return how many levels, from the last, may change."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise InvalidTypeError(
            f"max_level_moved has a wrong type: expected an integer, got {value!r}. Pass how many levels may change."
        )
    if not 1 <= value <= n_levels:
        raise InvalidValueError(
            f"max_level_moved is out of range: expected 1 .. {n_levels} levels, got {value}. "
            "Leave it out to let all levels change."
        )
    return int(value)


def place_in_last_levels(
    quantizer: ResolvableQuantizer,
    X: npt.NDArray[Any],
    codes: npt.NDArray[Any],
    n_moved: int,
    *,
    capacity: int,
    taken: npt.NDArray[Any] | None,
    weights: npt.NDArray[np.float64] | None,
    order: IntArray | None,
) -> Placement:
    """Do what `place_nearest` does, among the IDs that begin with an item's own codes of all but `n_moved` levels.

    Parameters
    ----------
    quantizer : ResolvableQuantizer
        Its IDs stand for sums of one centroid per level.
    X : ndarray of shape (n_items, dim), dtype float32
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype
    n_moved : int
        How many levels, from the last, may change.
    capacity, taken, weights, order
        As for `place_nearest`.

    Raises
    ------
    InvalidValueError
        If more items begin with some codes than there is room for behind them, or IDs do not stand for sums.
    """
    sizes = tuple(quantizer.codebook_sizes)
    n_kept = len(sizes) - n_moved
    taken = np.empty((0, len(sizes)), codes.dtype) if taken is None else taken
    prefixes, group = np.unique(np.concatenate([codes, taken])[:, :n_kept], axis=0, return_inverse=True)
    group = group.reshape(-1)
    room = capacity * math.prod(sizes[n_kept:])
    counts = np.bincount(group, minlength=len(prefixes))
    fullest = int(counts.argmax())
    if counts[fullest] > room:
        raise InvalidValueError(
            f"items do not fit behind their first codes {tuple(prefixes[fullest].tolist())}: expected at most {room} "
            f"with max_level_moved={n_moved}, got {counts[fullest]}, published ones included. Raise max_level_moved."
        )
    space = additive_space(quantizer, X)
    if space is None:
        raise InvalidValueError(
            f"max_level_moved is not for {type(quantizer).__name__}: expected IDs that stand for sums of centroids, "
            "got others. Leave it out."
        )
    rest = space.rest(codes[:, :n_kept])
    placement = place_nearest(
        LastLevels(rest.codebooks), rest.Z, capacity=capacity, taken=taken[:, n_kept:],
        weights=weights, order=order, groups=group[: len(codes)], taken_groups=group[len(codes) :],
        n_groups=len(prefixes),
    )  # fmt: skip
    return placement._replace(codes=np.concatenate([codes[:, :n_kept], placement.codes], axis=1))
