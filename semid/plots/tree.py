"""The tree of prefixes as an icicle plot: one row per level; the width of a node is its number of items."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from semid._arrays import CodeArray, DoubleArray, Int64Array
from semid._checks import check_count
from semid._optional import require
from semid.metrics.usage import check_code_table, check_labels, group_sizes
from semid.plots.style import (
    CHARACTER_WIDTH,
    FONT_POINTS,
    GREY,
    PALETTE,
    axes_or_new,
    cut,
    font_families,
    room,
    tint,
    width_of,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["prefix_tree"]


# Nodes narrower than this share of the width are drawn together; each alone would be thinner than a pixel.
NARROWEST = 1 / 1000
# First codes with a smaller share of the items are grey; such narrow colours side by side are only noise.
COLORED = 1 / 300
# Height of a node; the rest of the row is the gap to the next level.
NODE_HEIGHT = 0.94
# Number of colours of labels, with the grey of all other labels.
N_KINDS = len(PALETTE) + 1
# A label cut to fewer characters says nothing.
SHORTEST_LABEL = 6
# Length of a label in the legend, and width of a colour with its gaps, in letters.
LEGEND_LETTERS, LEGEND_PATCH = 30, 5
# From the axis down to the legend; the numbers and the label of the axis lie between.
LEGEND_POINTS = 36


class _Labels(NamedTuple):
    """Labels of the items; the most frequent ones have a colour."""

    names: npt.NDArray[np.str_]  # (n_labels,) in alphabetical order
    of_item: Int64Array  # (n_items,)
    rank: Int64Array  # (n_labels,) 0 for the most frequent; ties in alphabetical order

    def majority(self, node_of_item: Int64Array) -> tuple[Int64Array, DoubleArray]:
        """Return the most frequent label of each node (ties in alphabetical order) and its share."""
        pairs, count = np.unique(node_of_item * len(self.names) + self.of_item, return_counts=True)
        node, label = np.divmod(pairs, len(self.names))
        order = np.lexsort((label, -count, node))
        first = order[np.flatnonzero(np.diff(node[order], prepend=-1))]
        return label[first], count[first] / np.bincount(node_of_item)


class _Level(NamedTuple):
    """The nodes of one level in the order of drawing: by parent, colour of the label, number of items, and code."""

    code: Int64Array  # (n_nodes,)
    first: Int64Array  # (n_nodes,) items to the left of the node
    n_items: Int64Array  # (n_nodes,) items below the node
    color: npt.NDArray[np.str_]  # (n_nodes,) of the node's label, or of its ancestor on level 0
    block: Int64Array  # (n_nodes,) nodes drawn as one rectangle have the same number
    label: Int64Array  # (n_nodes,) the most frequent one; 0 without labels
    share: DoubleArray  # (n_nodes,) of that label among the items of the node


def prefix_tree(
    codes: Any, *, labels: Sequence[Any] | None = None, max_depth: int | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw the tree of prefixes, one row per level from top to bottom.

    A node lies below its parent. Its width is the number of items whose codes begin with it; siblings are sorted from
    the fullest on the left to the emptiest. Nodes too narrow to see are drawn together, hatched. Colours tell first
    codes apart and fade with depth; very small first codes are grey. Text in narrow nodes is upright.

    With labels, a node has the colour of its most frequent label, and siblings are sorted by label, the most frequent
    label on the left. If all nodes below a node have its colour, their codes say nothing more about the labels. A
    legend below the picture names the six most frequent labels; nodes of other labels are grey.

    Parameters
    ----------
    codes : array-like of shape (n_items, n_levels), integer dtype
    labels : sequence of str, length n_items, optional
        A category per item. A node with enough room shows its most frequent label and the share of its items that have
        it. Letters that the default font lacks are taken from another installed font. If no font has them, Matplotlib
        draws boxes and warns; then install a font for them, such as Noto Sans CJK.
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
        If the codes are not a table of integers, `labels` are not one per item, or `max_depth` is not a count.
    OptionalDependencyError
        If matplotlib is not installed.
    """
    table, sizes = check_code_table(codes)
    n_items, n_levels = table.shape
    depth = n_levels if max_depth is None else min(check_count(max_depth, "max_depth"), n_levels)
    categories = None if labels is None else _rank_labels(check_labels(labels, n_items=n_items))
    ax = axes_or_new(ax, size=(9.0, 1.2 + 0.75 * depth + (0.0 if categories is None else 0.4)))
    ax.set_xlim(0, n_items)
    ax.set_ylim(depth, 0)
    ax.set_yticks(np.arange(depth) + NODE_HEIGHT / 2, [f"level {level}" for level in range(depth)])
    ax.tick_params(left=False)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.xaxis.set_major_locator(require("matplotlib.ticker", extra="plot").MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlabel(f"items (in all {n_items:,}; distinct semantic IDs {len(group_sizes(table, sizes)):,})")
    if categories is not None:
        _name_colors(ax, categories)
    # The layout decides how wide a node is in the picture, and so which texts fit.
    ax.figure.canvas.figure.draw_without_rendering()
    for row, level in enumerate(_levels(table[:, :depth], sizes, categories)):
        _draw_level(ax, level, row=row, depth=depth, names=None if categories is None else categories.names)
    return ax


def _rank_labels(labels: npt.NDArray[np.str_]) -> _Labels:
    names, of_item, count = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(-count, kind="stable")] = np.arange(len(names))
    return _Labels(names, of_item, rank)


def _name_colors(ax: "Axes", labels: _Labels) -> None:
    """Put a legend of the coloured labels below the picture, in as many columns as fit."""
    patch = require("matplotlib.patches", extra="plot").Patch
    shown = labels.names[np.argsort(labels.rank)][: len(PALETTE)]
    texts = [cut(str(name), LEGEND_LETTERS) for name in shown]
    colors = list(PALETTE[: len(texts)])
    n_others = len(labels.names) - len(shown)
    if n_others:
        texts, colors = [*texts, f"{n_others:,} others"], [*colors, GREY]
    points = ax.get_window_extent().width * 72 / ax.figure.canvas.figure.dpi
    letters = points / (CHARACTER_WIDTH * FONT_POINTS)
    widths = [width_of(text) + LEGEND_PATCH for text in texts]
    shift = require("matplotlib.transforms", extra="plot").ScaledTranslation(
        0, -LEGEND_POINTS / 72, ax.figure.canvas.figure.dpi_scale_trans
    )
    n_columns = len(texts) if sum(widths) <= letters else max(1, int(letters / max(widths)))
    legend = ax.legend(
        [patch(color=color) for color in colors],
        texts,
        # Below the label of the axis; above the picture it would lie under a title of the caller.
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes + shift,
        borderaxespad=0,
        borderpad=0,
        ncols=n_columns,
        columnspacing=1.2,
        handlelength=1.2,
        frameon=False,
        fontsize=FONT_POINTS,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_fontfamily(font_families(text.get_text()))


def _levels(codes: CodeArray, codebook_sizes: Sequence[int], labels: _Labels | None) -> Iterator[_Level]:
    """Yield the levels from the top, nodes in the order of drawing."""
    n_items = len(codes)
    parent_of_item = np.zeros(n_items, dtype=np.int64)
    parent_block, parent_color, parent_is_wide = np.zeros(1, dtype=np.int64), np.array([GREY]), np.ones(1, dtype=bool)
    n_blocks = 1
    for row, column in enumerate(codes.T):
        size = codebook_sizes[row]
        keys, node_of_item, count = np.unique(parent_of_item * size + column, return_inverse=True, return_counts=True)
        parent, code = np.divmod(keys, size)
        label, share, kind = np.zeros(len(keys), np.int64), np.ones(len(keys)), np.zeros(len(keys), np.int64)
        if labels is not None:
            label, share = labels.majority(node_of_item)
            kind = np.minimum(labels.rank[label], len(PALETTE))
        order = np.lexsort((code, -count, kind, parent))
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        node_of_item = position[node_of_item]
        count, parent, code, kind = count[order], parent[order], code[order], kind[order]
        wide = count >= NARROWEST * n_items
        # A wide node is a block of its own. Narrow nodes of one colour below one wide ancestor share a block.
        fresh = n_blocks + len(count) + parent * N_KINDS + kind
        shared = np.where(parent_is_wide[parent], fresh, parent_block[parent])
        block = np.where(wide, n_blocks + np.arange(len(count)), shared)
        if labels is not None:
            own = np.array([*PALETTE, GREY])[kind]
            color = np.where(wide | parent_is_wide[parent], own, parent_color[parent])
        else:
            color = parent_color[parent] if row else _colors(count)
        yield _Level(code, np.cumsum(count) - count, count, color, block, label[order], share[order])
        n_blocks += len(count) + len(parent_block) * N_KINDS
        parent_of_item, parent_color, parent_block, parent_is_wide = node_of_item, color, block, wide


def _colors(count: Int64Array) -> npt.NDArray[np.str_]:
    palette = np.array(PALETTE)[np.arange(len(count)) % len(PALETTE)]
    return np.where(count >= COLORED * count.sum(), palette, GREY)


def _draw_level(ax: "Axes", level: _Level, *, row: int, depth: int, names: npt.NDArray[np.str_] | None) -> None:
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
            continue  # otherwise, among narrow nodes, only codes of one digit would be written
        lines = [str(level.code[starts[i]])]
        if names is not None and room(ax, box, SHORTEST_LABEL).n_characters >= SHORTEST_LABEL:
            lines += [str(names[level.label[starts[i]]]), f"{level.share[starts[i]]:.0%}"]
        write(ax, lines, box, background=solid[i])
