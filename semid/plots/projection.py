"""Embeddings on their first two principal axes, coloured by first code."""

from typing import TYPE_CHECKING, Any

import numpy as np

from semid._arrays import Array, DoubleArray, Int64Array
from semid._checks import check_count
from semid._optional import require
from semid.errors import InvalidValueError
from semid.io.batches import open_embeddings
from semid.io.matrices import float_block
from semid.metrics.usage import check_code_table
from semid.plots.style import CHARACTER_WIDTH, FONT_POINTS, PALETTE, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["projection"]


# Corners of a square of colours, (left, right) of (bottom, top): blue to orange and dark to light. Colour-blind readers
# can tell them apart.
CORNERS = (("#00417F", "#8A3D00"), ("#8CCBF5", "#FFC46B"))
# The smallest share of all items that gives a cell a number; smaller cells are too small to be found.
NUMBERED = 1 / 2000


def projection(X: Any, codes: Any, *, sample: int = 10_000, seed: int = 0, ax: "Axes | None" = None) -> "Axes":
    """Draw the embeddings on their first two principal axes, coloured by their first code.

    Each number is a first code, at the median of its items; codes with few items have no number if there is no room.
    Up to six codes have clearly different colours. More codes are coloured by the place of their median: blue to orange
    from left to right, dark to light from bottom to top. A code whose items lie together then has the colour of its
    surroundings, and dots of another colour belong to a code with its median elsewhere. Codes that look mixed may be
    apart on other axes; the labels of the two axes give the share of the variance that the picture shows.

    Parameters
    ----------
    X : ndarray, np.memmap, torch.Tensor, path of a ``.npy`` file, or array-like of shape (n_items, dim)
    codes : array-like of shape (n_items, n_levels), integer dtype
    sample : int, default=10_000
        The largest number of items to draw; the principal axes are those of the sample.
    seed : int, default=0
        Seed of that sample.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If the codes are not a table of integers with one row per embedding, or if `sample` or `seed` is not a count.
    OptionalDependencyError
        If matplotlib is not installed.
    """
    table, _ = check_code_table(codes)
    matrix = open_embeddings(X)
    if len(matrix) != len(table):
        raise InvalidValueError(
            f"codes and embeddings disagree: expected {len(matrix)} rows of codes, got {len(table)}. "
            "Pass the codes of these items."
        )
    n_drawn = min(check_count(sample, "sample"), len(table))
    rng = np.random.default_rng(check_count(seed, "seed", least=0))
    rows = np.sort(rng.choice(len(table), n_drawn, replace=False))
    points, shares = _principal_plane(np.asarray(float_block(matrix, rows), dtype=np.float64))
    cells, cell_of_point = np.unique(table[rows, 0], return_inverse=True)
    middles = np.array([np.median(points[cell_of_point == cell], axis=0) for cell in range(len(cells))])
    n_items = np.bincount(cell_of_point)
    color_of_cell = _colors(middles)

    ax = axes_or_new(ax, size=(7.0, 6.2))
    ax.scatter(
        points[:, 0], points[:, 1], s=_dot_area(len(points)), c=color_of_cell[cell_of_point], alpha=0.8, linewidths=0
    )
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xlabel(f"principal axis 1 ({shares[0]:.1%} of the variance)")
    ax.set_ylabel(f"principal axis 2 ({shares[1]:.1%} of the variance)")
    ax.set_xticks([])
    ax.set_yticks([])
    shown = "" if len(rows) == len(table) else f" ({len(rows):,} shown)"
    colored = ", coloured by their middle" if len(cells) > len(PALETTE) else ""
    ax.set_title(f"{len(table):,} items{shown}, {len(cells):,} first codes{colored}", fontsize="medium")
    # The layout decides how wide a number is in the picture, and so which numbers have room.
    ax.figure.canvas.figure.draw_without_rendering()
    _write_numbers(ax, cells, middles, n_items)
    return ax


def _principal_plane(x: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Return the coordinates (n_items, 2) on the first two principal axes, and the share of the variance of each."""
    x = x - x.mean(axis=0)
    values, axes = np.linalg.eigh(x.T @ x)
    total = max(float(values.sum()), np.finfo(np.float64).tiny)
    axes, values = axes[:, ::-1][:, :2], values[::-1][:2]
    # The sign of an eigenvector is arbitrary; a fixed sign keeps pictures comparable.
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1, 1)
    plane, shares = np.zeros((len(x), 2)), np.zeros(2)
    plane[:, : axes.shape[1]], shares[: len(values)] = x @ axes, np.maximum(values, 0) / total
    return plane, shares


def _colors(middles: DoubleArray) -> DoubleArray:
    """Return a colour (red, green, blue) per cell."""
    to_rgb = require("matplotlib.colors", extra="plot").to_rgb
    if len(middles) <= len(PALETTE):
        return np.array([to_rgb(color) for color in PALETTE[: len(middles)]])
    corners = np.array([[to_rgb(color) for color in row] for row in CORNERS])
    # Ranks instead of coordinates: crowded regions get as many colours as sparse ones.
    across, up = np.argsort(np.argsort(middles, axis=0), axis=0).T[:, :, None] / (len(middles) - 1)
    bottom, top = (left + across * (right - left) for left, right in corners)
    return bottom + up * (top - bottom)  # type: ignore[no-any-return]


def _dot_area(n_points: int) -> float:
    """Return the area of a dot in points squared; the more points, the smaller."""
    return float(np.clip(30_000 / n_points, 3, 40))


def _write_numbers(ax: "Axes", cells: Array, middles: DoubleArray, n_items: Int64Array) -> None:
    """Write the numbers of the cells at their medians, the fullest cells first, without overlaps."""
    font_pixels = FONT_POINTS * ax.figure.canvas.figure.dpi / 72
    at = ax.transData.transform(middles)
    taken: list[tuple[float, float, float]] = []
    for cell in np.argsort(-n_items, kind="stable"):
        if n_items[cell] < NUMBERED * n_items.sum():
            break
        text = str(cells[cell])
        x, y = at[cell]
        half = (len(text) + 1) * CHARACTER_WIDTH * font_pixels / 2
        if any(abs(x - x2) < half + half2 and abs(y - y2) < font_pixels * 1.15 for x2, y2, half2 in taken):
            continue
        taken.append((x, y, half))
        box = {"facecolor": "white", "alpha": 0.65, "edgecolor": "none", "pad": 0.6}
        left, up = middles[cell]
        ax.text(left, up, text, ha="center", va="center", fontsize=FONT_POINTS, clip_on=True, bbox=box)
