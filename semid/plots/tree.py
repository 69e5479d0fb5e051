"""The tree of prefixes as an icicle: one row per level, each node as wide as its items are many."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid._optional import require
from semid.errors import InvalidValueError
from semid.metrics.purity import check_labels
from semid.metrics.usage import CodeArray, check_code_table, group_sizes
from semid.plots.style import GREY, PALETTE, axes_or_new, room, tint, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["prefix_tree"]

IntArray = npt.NDArray[np.int64]

# Nodes narrower than this share of the width are drawn together: on their own they would be thinner than a pixel.
NARROWEST = 1 / 1000
# First codes below this share are grey: narrower colours, side by side, are only noise.
COLORED = 1 / 300
# Height of a node; the rest of its row is the gap to the next level.
NODE_HEIGHT = 0.94
# A label cut to fewer characters says nothing.
SHORTEST_LABEL = 6


class _Level(NamedTuple):
    """The nodes of one level in the order of drawing: by parent, then the fullest first, then by code."""

    code: IntArray  # (n_nodes,)
    first: IntArray  # (n_nodes,) items to the left of the node
    n_items: IntArray  # (n_nodes,) items below the node
    color: npt.NDArray[np.str_]  # (n_nodes,) of the node's ancestor on level 0
    block: IntArray  # (n_nodes,) nodes drawn as one rectangle have the same number
    node_of_item: IntArray  # (n_items,)


def prefix_tree(
    codes: Any, *, labels: Sequence[Any] | None = None, max_depth: int | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw the tree of prefixes, one row per level from top to bottom.

    A node stands below its parent and is as wide as the items are many whose codes begin with it; among siblings the
    fullest stands left. Nodes too narrow for a picture are drawn together, hatched. Colours fade with depth and tell
    first codes apart; very small ones are grey. Text in narrow nodes stands upright.

    Parameters
    ----------
    codes : array-like of shape (n_items, n_levels), integer dtype
    labels : sequence of str, length n_items, optional
        A category per item. Each node that has room shows its most frequent one, with its share of the node's items.
    max_depth : int, optional
        Levels to draw; default: all.
    ax : matplotlib Axes, optional
        Where to draw; default: a new figure.

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If the codes are not a table of integers, `labels` are not one per item, or `max_depth` is not positive.
    OptionalDependencyError
        If matplotlib is not installed.
    """
    table, sizes = check_code_table(codes)
    n_items, n_levels = table.shape
    if max_depth is not None and max_depth < 1:
        raise InvalidValueError(f"max_depth is too small: expected at least 1, got {max_depth}. Raise max_depth.")
    names = None if labels is None else check_labels(labels, n_items=n_items)
    depth = min(n_levels, max_depth or n_levels)
    ax = axes_or_new(ax, size=(9.0, 1.2 + 0.75 * depth))
    ax.set_xlim(0, n_items)
    ax.set_ylim(depth, 0)
    ax.set_yticks(np.arange(depth) + NODE_HEIGHT / 2, [f"level {level}" for level in range(depth)])
    ax.tick_params(left=False)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.xaxis.set_major_locator(require("matplotlib.ticker", extra="plot").MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlabel(f"items (in all {n_items:,}; distinct semantic IDs {len(group_sizes(table, sizes)):,})")
    # The layout decides how wide a node is on paper, and that which texts fit.
    ax.figure.canvas.figure.draw_without_rendering()
    for row, level in enumerate(_levels(table[:, :depth], sizes)):
        _draw_level(ax, level, row=row, depth=depth, labels=names)
    return ax


def _levels(codes: CodeArray, codebook_sizes: Sequence[int]) -> Iterator[_Level]:
    """Yield the levels from the top, nodes in the order of drawing."""
    n_items = len(codes)
    parent_of_item = np.zeros(n_items, dtype=np.int64)
    parent_block = np.zeros(1, dtype=np.int64)
    parent_color = np.array([GREY])
    n_blocks = 1
    for row, column in enumerate(codes.T):
        size = codebook_sizes[row]
        keys, node_of_item, count = np.unique(parent_of_item * size + column, return_inverse=True, return_counts=True)
        parent, code = np.divmod(keys, size)
        order = np.lexsort((code, -count, parent))
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        node_of_item, count, parent, code = position[node_of_item], count[order], parent[order], code[order]
        wide = count >= NARROWEST * n_items
        # A wide node is a block of its own; narrow ones share the block of their nearest wide ancestor's narrow nodes.
        block = np.where(wide, n_blocks + np.arange(len(count)), parent_block[parent])
        color = parent_color[parent] if row else _colors(count)
        yield _Level(code, np.cumsum(count) - count, count, color, block, node_of_item)
        parent_of_item, parent_color, parent_block, n_blocks = node_of_item, color, block, n_blocks + len(count)


def _colors(count: IntArray) -> npt.NDArray[np.str_]:
    palette = np.array(PALETTE)[np.arange(len(count)) % len(PALETTE)]
    return np.where(count >= COLORED * count.sum(), palette, GREY)


def _draw_level(ax: "Axes", level: _Level, *, row: int, depth: int, labels: npt.NDArray[np.str_] | None) -> None:
    starts = np.flatnonzero(np.diff(level.block, prepend=-1))
    n_nodes = np.diff(starts, append=len(level.block))
    left = level.first[starts]
    width = np.diff(left, append=level.first[-1] + level.n_items[-1])
    fade = 0.65 * row / depth
    solid = [tint(level.color[start], fade) for start in starts]
    pale = [tint(color, 0.6) for color in solid]
    bars = list(zip(left, width, strict=True))
    one, many = np.flatnonzero(n_nodes == 1), np.flatnonzero(n_nodes > 1)
    ax.broken_barh(
        [bars[i] for i in one], (row, NODE_HEIGHT), facecolor=[solid[i] for i in one], edgecolor="white", linewidth=0.4
    )
    ax.broken_barh(
        [bars[i] for i in many], (row, NODE_HEIGHT), facecolor=[pale[i] for i in many],
        edgecolor=[solid[i] for i in many], hatch="||||", linewidth=0.0,
    )  # fmt: skip
    for i in many:
        write(ax, [f"{n_nodes[i]:,} nodes"], (left[i], row, width[i], NODE_HEIGHT), background=pale[i], clear=True)
    widest = len(str(level.code.max()))
    for i in one:
        box = (left[i], row, width[i], NODE_HEIGHT)
        if room(ax, box, widest).n_characters < widest:
            continue  # else codes of one digit alone would be written among narrow nodes
        lines = [str(level.code[starts[i]])]
        if labels is not None and room(ax, box, SHORTEST_LABEL).n_characters >= SHORTEST_LABEL:
            lines += _majority(labels[level.node_of_item == starts[i]])
        write(ax, lines, box, background=solid[i])


def _majority(labels: npt.NDArray[np.str_]) -> tuple[str, str]:
    """Return the most frequent label, the first in the alphabet among equals, and its share."""
    names, counts = np.unique(labels, return_counts=True)
    best = int(counts.argmax())
    return str(names[best]), f"{counts[best] / counts.sum():.0%}"
