"""Use of the codebooks: items per code, from the fullest code to the dead codes."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from semid._arrays import FloatArray, Int64Array
from semid.metrics.usage import check_code_table, code_counts, entropy_bits
from semid.plots.style import CHARACTER_WIDTH, FONT_POINTS, GREY, PALETTE, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["codebook_usage"]

TIMES = "\N{MULTIPLICATION SIGN}"
LINE_STYLES = ("-", "--", ":", "-.")
# The longest line of the legend, the sample of the curve included.
LEGEND_CHARACTERS = 66


def codebook_usage(codes: Any, *, codebook_sizes: Sequence[int] | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw how many items each code has, one curve per level.

    Codes are sorted from the fullest to the emptiest and spread over the whole width, so that codebooks of different
    sizes can be compared: 100 % is the whole codebook. The height is the number of items divided by the number under
    even use of the codebook, on a logarithmic scale. A curve that starts high has overfull codes; the codes from where
    it drops to "dead" have no items.

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
    ax = axes_or_new(ax, size=(7.0, 4.2))
    counts = [np.sort(level_counts)[::-1] for level_counts in code_counts(table, sizes)]
    loads = [level_counts * (size / len(table)) for level_counts, size in zip(counts, sizes, strict=True)]
    has_dead = any(load[-1] == 0 for load in loads)
    low = min(0.5, *(float(load[load > 0][-1]) for load in loads)) / 1.3
    high = max(2.0, *(float(load[0]) for load in loads)) * 1.3
    # A logarithmic axis has no zero: dead codes lie on a shelf at the bottom, below the least used code.
    # Each level has its own lane on the shelf, so that no level hides another.
    step = (high / low) ** 0.05
    shelf = low / step**2
    lanes = shelf * step ** np.linspace(0.6, -0.6, len(loads)) if len(loads) > 1 else [shelf]
    for level, (load, level_counts, lane) in enumerate(zip(loads, counts, lanes, strict=True)):
        ax.stairs(
            np.where(load > 0, load, lane),
            np.linspace(0, 100, len(load) + 1),
            baseline=None,
            color=PALETTE[level % len(PALETTE)],
            linestyle=LINE_STYLES[level // len(PALETTE) % len(LINE_STYLES)],
            linewidth=1.8,
            label=_summary(level, level_counts, fullest=load[0]),
        )
    ax.set_yscale("log")
    ax.axhline(1, color=GREY, linewidth=0.8, zorder=0)
    if has_dead:
        ax.axhspan(shelf / step, shelf * step, color=GREY, alpha=0.15, linewidth=0, zorder=0)
        ax.text(0.01, shelf, "dead", transform=ax.get_yaxis_transform(), va="center", color=GREY, fontsize="small")
    bottom = shelf / step if has_dead else low
    ax.set_ylim(bottom, _top(ax, bottom, high, loads))
    ax.set_xlim(0, 100)
    ticks = _ticks(low, ax.get_ylim()[1])
    ax.set_yticks(ticks, [f"{tick:g}{TIMES}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("codes of the level, fullest first (% of the codebook)")
    ax.set_ylabel(f"items per code (1{TIMES} = even use)")
    ax.legend(loc="upper right", fontsize=FONT_POINTS)
    return ax


def _summary(level: int, counts: Int64Array, *, fullest: float) -> str:
    used = f"{np.count_nonzero(counts):,} of {len(counts):,} codes used"
    return f"level {level}: {used}, fullest {fullest:.3g}{TIMES}, perplexity {2 ** entropy_bits(counts):,.0f}"


def _top(ax: "Axes", bottom: float, high: float, loads: list[FloatArray]) -> float:
    """Return the upper limit that leaves the upper right corner free for the legend; curves are low there."""
    extent = ax.get_window_extent()
    font_pixels = FONT_POINTS * ax.figure.canvas.figure.dpi / 72
    legend_height = min(0.75, (len(loads) * 1.5 + 2) * font_pixels / extent.height)
    legend_left = max(0.0, 1 - LEGEND_CHARACTERS * CHARACTER_WIDTH * font_pixels / extent.width)
    highest_below = max(float(load[int(legend_left * len(load))]) for load in loads)
    if highest_below <= bottom:
        return high
    return float(max(high, bottom * (highest_below / bottom) ** (1 / (1 - legend_height))))


def _ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten in a range; in a short range, also 2 and 5 times these."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 200 else (1,)
    return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
