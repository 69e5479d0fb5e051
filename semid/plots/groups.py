"""Sizes of the groups of items that share a semantic ID."""

from typing import TYPE_CHECKING, Any

import numpy as np

from semid.metrics.usage import check_code_table, group_sizes
from semid.plots.style import FONT_POINTS, PALETTE, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["collision_sizes"]

EN_DASH = "\N{EN DASH}"


def collision_sizes(codes: Any, *, ax: "Axes | None" = None) -> "Axes":
    """Draw how many items share their semantic ID with how many others.

    One bar per range of group sizes: 1, 2, 3-4, 5-8, .. The height of a bar is the share of the items in such groups;
    the numbers above it are the items and their distinct semantic IDs. The first bar is that of items with an ID of
    their own; a catalogue without collisions has no other bar.

    Parameters
    ----------
    codes : array-like of shape (n_items, n_levels), integer dtype
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If the codes are not a table of integers.
    OptionalDependencyError
        If matplotlib is not installed.
    """
    table, sizes = check_code_table(codes)
    groups = group_sizes(table, sizes)
    # Bin b holds sizes above 2^(b-1) and up to 2^b.
    bins = np.ceil(np.log2(groups)).astype(np.int64)
    n_groups = np.bincount(bins)
    n_items = np.bincount(bins, weights=groups).astype(np.int64)
    shares = 100 * n_items / len(table)
    ax = axes_or_new(ax, size=(max(5.0, 1.6 + 0.72 * len(shares)), 3.8))
    colors = [PALETTE[0], *[PALETTE[1]] * (len(shares) - 1)]
    ax.bar(np.arange(len(shares)), shares, width=0.8, color=colors)
    for at, (share, items, ids) in enumerate(zip(shares, n_items, n_groups, strict=True)):
        if ids:
            text = f"{_short(items)} items\n{_short(ids)} {'ID' if ids == 1 else 'IDs'}"
            ax.annotate(text, (at, share), (0, 2), textcoords="offset points", ha="center", fontsize=FONT_POINTS)
    ax.set_xticks(np.arange(len(shares)), [_interval(b) for b in range(len(shares))])
    ax.set_xlim(-0.6, len(shares) - 0.4)
    # Room for two lines of text above the highest bar.
    ax.set_ylim(0, 1.16 * shares.max())
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= 100])
    ax.yaxis.set_major_formatter("{x:g}%")
    ax.spines[["right", "top"]].set_visible(False)
    rate = 1 - len(groups) / len(table)
    ax.set_xlabel("items that share one semantic ID")
    ax.set_title(f"collision rate {rate:.1%}, largest group {groups.max():,}", fontsize="medium")
    ax.set_ylabel(f"share of the {len(table):,} items")
    return ax


def _interval(power: int) -> str:
    first, last = 2**power // 2 + 1, 2**power
    return f"{last:,}" if first >= last else f"{first:,}{EN_DASH}{last:,}"


def _short(count: int) -> str:
    """Return a count in at most five characters."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if count >= 10 * unit:
            digits = 1 if count < 100 * unit else 0
            return f"{count / unit:.{digits}f}{name}"
    return f"{count:,}"
