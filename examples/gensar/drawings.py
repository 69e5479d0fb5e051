"""The pictures of the notebook: IDs side by side, a tree of prefixes with titles, and the beams of a request."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

import semid

from .figures import BLUE, GREY, ORANGE
from .steps import Beam

__all__ = ["beam_levels", "could_become", "id_strips", "title_tree"]

CodeArray = npt.NDArray[np.unsignedinteger[Any]]

# Colours of a code that agrees with the first item's, level by level: the longer the common beginning, the darker.
AGREEING = ("#CFE6F3", "#8CC5E3", "#4A9CC9", "#0072B2")
OTHER = "#EFEFEF"
# Of a beam, where the way to the next level is 1.
BOX_WIDTH = 0.74


def id_strips(ax: Axes, titles: Sequence[str], codes: CodeArray, *, header: str) -> None:
    """Draw one row of codes per item; blue is what the ID has in common with the beginning of the first one.

    Parameters
    ----------
    ax : Axes
    titles : sequence of str
        Written to the left of the rows; empty strings leave the room to another panel.
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype
    header : str
    """
    common = np.logical_and.accumulate(codes == codes[0], axis=1)
    n_items, n_levels = codes.shape
    for row, level in np.ndindex(n_items, n_levels):
        shade = AGREEING[min(level, len(AGREEING) - 1)] if common[row, level] else OTHER
        ax.add_patch(_box(level + 0.03, row + 0.05, shade, width=0.94, height=0.9))
        dark = common[row, level] and level >= 2
        ax.text(
            level + 0.5, row + 0.5, str(codes[row, level]), ha="center", va="center", fontsize=9,
            color="white" if dark else "black",
        )  # fmt: skip
    ax.set(xlim=(0, n_levels), ylim=(n_items, 0), title=header)
    ax.set_xticks(np.arange(n_levels) + 0.5, [f"level {level}" for level in range(n_levels)])
    ax.set_yticks(np.arange(n_items) + 0.5, titles)
    _bare(ax)


def title_tree(ax: Axes, trie: semid.Trie, titles: Sequence[str], *, header: str) -> None:
    """Draw the prefixes of a trie from left to right, each with its code, and the titles at its leaves.

    Parameters
    ----------
    ax : Axes
    trie : Trie
        Of a few dozen items at most; a restricted one shows what is left.
    titles : sequence of str
        By rank in the whole trie.
    header : str
    """
    ranks = trie.ranks()
    codes = trie.codes_of(ranks)
    height = {(): (len(ranks) - 1) / 2}
    for depth in range(trie.n_levels + 1):
        prefixes, node_of = np.unique(codes[:, :depth], axis=0, return_inverse=True)
        for node, prefix in enumerate(map(tuple, prefixes.tolist())):
            height[prefix] = float(np.flatnonzero(node_of.ravel() == node).mean())
            if depth:
                parent = height[prefix[:-1]]
                ax.plot([depth - 1, depth - 0.5, depth], [parent, height[prefix], height[prefix]], color=GREY, zorder=1)
                ax.text(
                    depth, height[prefix], str(prefix[-1]), ha="center", va="center", fontsize=8, color="white",
                    bbox={"boxstyle": "round,pad=0.25", "facecolor": BLUE, "linewidth": 0},
                )  # fmt: skip
    for at, rank in enumerate(ranks):
        ax.text(trie.n_levels + 0.15, at, titles[rank], va="center", fontsize=9)
    ax.set(xlim=(-0.1, trie.n_levels + 1.6), ylim=(len(ranks) - 0.3, -0.7), title=header, yticks=[])
    ax.set_xticks(range(1, trie.n_levels + 1), [f"level {level}" for level in range(trie.n_levels)])
    _bare(ax)


def beam_levels(
    ax: Axes,
    steps: Sequence[Sequence[Beam]],
    describe: Callable[[Beam], str],
    *,
    header: str,
    wanted: int | None = None,
) -> None:
    """Draw the beams after each level as a column, best first, with lines from each beam to those that it led to.

    Parameters
    ----------
    ax : Axes
    steps : sequence of sequence of Beam
        From `beam_steps`.
    describe : callable
        Text for a beam, below its codes and its score; may have several lines.
    header : str
    wanted : int, optional
        Rank of the item that should be found: beams that can still become it are orange.
    """
    most = max(map(len, steps))
    ax.text(-0.3, (most - 1) / 2, "prompt", ha="center", va="center", fontsize=8, rotation=90)
    for level, beams in enumerate(steps):
        for place, beam in enumerate(beams):
            hit = wanted is not None and wanted in beam.ranks
            dropped = level + 1 < len(steps) and all(after.parent != place for after in steps[level + 1])
            color = ORANGE if hit else GREY if dropped else BLUE
            begin = (level - 1 + BOX_WIDTH, beam.parent) if level else (-0.27, (most - 1) / 2)
            ax.plot([begin[0], level], [begin[1], place], color=color, linewidth=1.2, zorder=1)
            ax.add_patch(_box(level, place - 0.4, "white", width=BOX_WIDTH, height=0.8, edge=color))
            code = ", ".join(map(str, beam.codes))
            ax.text(
                level + 0.02, place, f"({code})   {beam.score:.2f}\n{describe(beam)}", va="center", fontsize=7.5,
                color="#555555" if dropped else "black",
            )  # fmt: skip
    ax.set(xlim=(-0.36, len(steps) - 1 + BOX_WIDTH + 0.02), ylim=(most - 0.5, -0.5), title=header, yticks=[])
    ax.set_xticks(np.arange(len(steps)) + BOX_WIDTH / 2, [f"after level {level}" for level in range(len(steps))])
    _bare(ax)


def could_become(beam: Beam, titles: Sequence[str], weights: Sequence[float], *, n_shown: int = 2) -> str:
    """Return the titles of the items that a beam can still become, a line each, and how many more there are.

    Parameters
    ----------
    beam : Beam
    titles : sequence of str
        By rank.
    weights : sequence of float
        By rank; the heaviest come first.
    n_shown : int
    """
    by_weight = sorted(beam.ranks, key=lambda rank: (-weights[rank], rank))
    more = len(by_weight) - n_shown
    return "\n".join(titles[rank] for rank in by_weight[:n_shown]) + (f", {more} more" if more > 0 else "")


def _box(x: float, y: float, color: str, *, width: float, height: float, edge: str = "none") -> Rectangle:
    return Rectangle((x, y), width, height, facecolor=color, edgecolor=edge, linewidth=1.2)


def _bare(ax: Axes) -> None:
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.title.set_fontsize(10)
