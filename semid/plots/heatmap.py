"""Use of each code: one field per code, one square of fields per level."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from semid._optional import require
from semid.metrics.usage import check_code_table, code_counts
from semid.plots.style import FONT_POINTS, GREY, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["usage_heatmap"]

TIMES = "\N{MULTIPLICATION SIGN}"
GAP = 0.12  # gap between two levels, as a share of the width of a level
# A code used this many times more or less than evenly has the darkest colour.
EXTREME = 16


def usage_heatmap(codes: Any, *, codebook_sizes: Sequence[int] | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw how many items each code has, one field per code and one square of fields per level.

    Codes run in rows from the upper left, so the place of a field gives the code. The colour is the number of items
    divided by the number under even use of the codebook, on a logarithmic scale: violet below 1, orange above 1, black
    for dead codes. `codebook_usage` shows the same numbers, sorted.

    Parameters
    ----------
    codes : array-like of shape (n_items, n_levels), integer dtype
    codebook_sizes : sequence of int, optional
        One per level. Default: the largest code of each level plus one; dead codes above it are then not shown.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If the codes are not a table of integers below the codebook sizes.
    OptionalDependencyError
        If matplotlib is not installed.
    """
    table, sizes = check_code_table(codes, codebook_sizes)
    colors = require("matplotlib.colors", extra="plot")
    per_row = min(len(sizes), 4)
    n_rows = math.ceil(len(sizes) / per_row)
    ax = axes_or_new(ax, size=(1.3 + 2.1 * per_row, 0.5 + 2.35 * n_rows))
    # Without the darkest ends of the colormap, so that no code in use looks dead.
    ramp = require("matplotlib", extra="plot").colormaps["PuOr_r"](np.linspace(0.12, 0.88, 255))
    colormap = colors.ListedColormap(ramp).with_extremes(bad="black")
    norm = colors.LogNorm(1 / EXTREME, EXTREME)
    for level, counts in enumerate(code_counts(table, sizes)):
        row, column = divmod(level, per_row)
        side = math.ceil(math.sqrt(len(counts)))
        n_fields = side * math.ceil(len(counts) / side)
        load = np.ma.masked_equal(counts * (len(counts) / len(table)), 0)
        painted = np.ones((n_fields, 4))  # white: the fields after the last code
        painted[: len(counts)] = colormap(norm(load))
        left, top = column * (1 + GAP), row * (1 + 2 * GAP)
        right, bottom = left + 1, top + n_fields / side**2
        ax.imshow(painted.reshape(-1, side, 4), extent=(left, right, bottom, top))
        dead = int((counts == 0).sum())
        ax.text(
            left, top - 0.03, f"level {level}: {len(counts):,} codes, {dead:,} dead", fontsize=FONT_POINTS, va="bottom"
        )
        ax.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=GREY, linewidth=0.6)
    ax.set_xlim(-0.01, per_row * (1 + GAP) - GAP + 0.01)
    ax.set_ylim(n_rows * (1 + 2 * GAP) - 2 * GAP + 0.01, -2 * GAP)
    ax.set_aspect("equal")
    ax.set_axis_off()
    scale = require("matplotlib.cm", extra="plot").ScalarMappable(norm, colormap)
    bar = ax.figure.colorbar(scale, ax=ax, extend="both", shrink=0.8, pad=0.02)
    ticks = [1 / 16, 1 / 4, 1, 4, 16]
    bar.set_ticks(ticks, labels=["1/16" + TIMES, "1/4" + TIMES, "1" + TIMES, "4" + TIMES, "16" + TIMES])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=FONT_POINTS)
    bar.set_label(f"items per code\n(1{TIMES} = even use; black = dead)", fontsize=FONT_POINTS)
    return ax
