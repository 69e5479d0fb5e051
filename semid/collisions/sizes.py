"""How many levels and codes a catalogue needs: what random codes would collide, and how much worse real ones are."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

from semid._checks import check_integer, check_sizes
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = ["ROOM_EXPONENTS", "expected_collision_rate", "suggest_sizes"]


# Real codes collide as often as random ones would among ``n_ids ** exponent`` IDs: lowest, median and highest that
# benchmarks/compare_collisions.py measured with three levels of ResidualKMeans on three shops' items.
ROOM_EXPONENTS = (0.50, 0.64, 0.78)
# No catalogue has more items, and none is counted beyond 64 bits.
MOST_ITEMS = 2**63 - 1
# Below this many items per ID, `1 - n_unique / n_items` has lost more digits than the two terms of its series lack.
SPARSE = 1e-4


class SizeSuggestion(NamedTuple):
    """One shape of IDs, and the share of items that would have to share or move.

    Attributes
    ----------
    codebook_sizes : tuple of int
    n_ids : int
        Product of the sizes.
    load : float
        ``n_items / n_ids``; above 1 no resolver can help.
    random_rate : float
        Expected collision rate of random codes: a bound that real codes never reach.
    low_rate, typical_rate, high_rate : float
        Collision rate of real codes at the highest, the median and the lowest exponent measured.
    """

    codebook_sizes: tuple[int, ...]
    n_ids: int
    load: float
    random_rate: float
    low_rate: float
    typical_rate: float
    high_rate: float


def expected_collision_rate(n_items: int, n_ids: float) -> float:
    """Return ``1 - E[n_unique] / n_items`` of items on random IDs, ``E[n_unique] = n_ids (1 - (1 - 1/n_ids)^n_items)``.

    The birthday bound; about ``n_items / (2 n_ids)`` while that is small. `n_ids` may be infinite.

    Examples
    --------
    >>> round(expected_collision_rate(1_000_000, 256**3), 4)
    0.0292
    """
    if n_items == 1 or n_ids <= 1:
        return 1 - 1 / n_items
    if n_items / n_ids < SPARSE:
        first = (n_items - 1) / n_ids
        return first / 2 - first * ((n_items - 2) / n_ids) / 6
    n_unique = -n_ids * math.expm1(n_items * math.log1p(-1 / n_ids))
    return max(0.0, 1 - n_unique / n_items)


def suggest_sizes(
    n_items: int, *, codebook_sizes: Sequence[int] = (256, 512, 1024, 4096), max_rate: float = 0.25
) -> list[SizeSuggestion]:
    """Suggest levels x codes: per codebook size, the fewest levels that keep collisions low and leave room to grow.

    Real codes crowd where items are alike. So this counts with a smaller number of IDs, ``n_ids ** exponent``, where
    the exponent is what was measured with three levels on real items: 0.50 at worst, 0.64 in the median, 0.78 at best.
    That is a rule of thumb from three catalogues of 2,400 to 12,100 items, and no more: a fourth level of 256 codes
    brought less than it says, because near duplicates collide at any size. Measure your own with `semid.report`. At
    least half of the IDs stay free for new items.

    Parameters
    ----------
    n_items : int
        Items that the catalogue is to hold, growth included.
    codebook_sizes : sequence of int, or array of an integer dtype
        Sizes to try; all levels get the same.
    max_rate : float, default=0.25
        Largest `typical_rate` to accept, before `semid.resolve` makes the IDs unique.

    Returns
    -------
    suggestions : list of SizeSuggestion
        One per codebook size.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If `n_items` is not a positive 64-bit integer, a codebook size is not an integer above 1, or `max_rate` is not a
        number between 0 and 1.

    Examples
    --------
    >>> for one in suggest_sizes(1_000_000, codebook_sizes=[256, 2048]):
    ...     print(one.codebook_sizes, f"{one.typical_rate:.0%} ({one.low_rate:.0%} .. {one.high_rate:.0%})")
    (256, 256, 256, 256, 256) 1% (0% .. 36%)
    (2048, 2048, 2048) 19% (1% .. 91%)
    """
    n_items = check_integer(n_items, "n_items", remedy="Pass a number of items.")
    if n_items < 1:
        raise InvalidValueError(f"n_items is too small: expected at least 1, got {n_items}. Pass a number of items.")
    if n_items > MOST_ITEMS:
        raise InvalidValueError(
            f"n_items is too large: expected at most {MOST_ITEMS}, got about 10^{math.log10(n_items):.0f}. "
            "Pass a number of items."
        )
    if not isinstance(max_rate, Real):
        raise InvalidTypeError(f"max_rate has a wrong type: expected a number, got {max_rate!r}. Pass a share.")
    if not 0 < max_rate < 1:
        raise InvalidValueError(f"max_rate is out of range: expected between 0 and 1, got {max_rate}. Pass a share.")
    # As ints of Python, whose products do not overflow.
    codebook_sizes = check_sizes(codebook_sizes)
    if min(codebook_sizes) < 2:
        raise InvalidValueError(
            f"codebook_sizes are too small: expected at least 2 codes each, got {list(codebook_sizes)}. Enlarge them."
        )
    found = []
    for size in codebook_sizes:
        n_levels = 1
        while True:
            one = _suggestion(n_items, (size,) * n_levels)
            if one.load <= 0.5 and one.typical_rate <= max_rate:
                found.append(one)
                break
            n_levels += 1
    return found


def _suggestion(n_items: int, sizes: tuple[int, ...]) -> SizeSuggestion:
    n_ids = math.prod(sizes)
    high, typical, low = (expected_collision_rate(n_items, _power(n_ids, exponent)) for exponent in ROOM_EXPONENTS)
    return SizeSuggestion(sizes, n_ids, n_items / n_ids, expected_collision_rate(n_items, n_ids), low, typical, high)


def _power(n_ids: int, exponent: float) -> float:
    """Return ``n_ids ** exponent``, infinite where a float ends; so a rate reaches 0 and every search has an end."""
    try:
        return math.exp(exponent * math.log(n_ids))
    except OverflowError:
        return math.inf
