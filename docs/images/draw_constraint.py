"""Draw docs/images/constraint.png from a small trie: ``python docs/images/draw_constraint.py``."""

import sys
from pathlib import Path

import matplotlib
import numpy as np

import semid
from semid.plots.style import GREY, PALETTE

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

# Ranks 0 .. 6; rank 3 is out of stock.
CODES = np.array([[0, 0, 1], [0, 0, 2], [0, 2, 0], [1, 0, 0], [1, 0, 2], [1, 1, 1], [2, 2, 2]])
OUT_OF_STOCK, PREFIX = 3, (1, 0)
WORDS, SIZES = 4, (3, 3, 3)  # tokens of the language model before those of the levels
BLUE, LINE = PALETTE[0], "#B0B0B0"


def nodes_of(trie: semid.Trie) -> list[list[tuple[tuple[int, ...], range]]]:
    """Return the prefixes of each depth with the ranks below them."""
    found: list[list[tuple[tuple[int, ...], range]]] = [[((), trie.prefix_range(()))]]
    for _ in range(trie.n_levels):
        found.append([
            ((*prefix, int(code)), trie.prefix_range((*prefix, int(code))))
            for prefix, _ in found[-1] for code in trie.children(prefix)
        ])  # fmt: skip
    return found


def draw_tree(ax: Axes, trie: semid.Trie, live: semid.Trie) -> None:
    """Draw the nodes of each depth over the ranks below them."""
    depths = nodes_of(trie)
    at = {prefix: ((r.start + r.stop - 1) / 2, -depth) for depth, row in enumerate(depths) for prefix, r in row}
    allowed = {(*PREFIX, int(code)) for code in live.children(PREFIX)}
    path = {PREFIX[:depth] for depth in range(1, len(PREFIX) + 1)} | allowed
    for prefix, (x, y) in at.items():
        dead = live.walk(np.array(prefix, int)[None])[0] < 0
        color = BLUE if prefix in path else GREY if dead else "black"
        if prefix:
            parent = at[prefix[:-1]]
            ax.plot([parent[0], x], [parent[1] - 0.16, y + 0.16], color=BLUE if prefix in path else LINE,
                    linestyle="--" if dead else "-", linewidth=2 if prefix in path else 1, zorder=1)  # fmt: skip
        ax.text(x, y, str(prefix[-1]) if prefix else "root", ha="center", va="center", color=color,
                bbox=dict(boxstyle="circle" if prefix else "round", facecolor="white", edgecolor=color,
                          linestyle="--" if dead else "-", linewidth=2 if prefix in path else 1))  # fmt: skip
    for rank in range(trie.n_ranks):
        dead = rank == OUT_OF_STOCK
        ax.text(rank, -3.5, f"rank {rank}", ha="center", va="top", color=GREY if dead else "black", fontsize=9)
        if dead:
            ax.text(rank, -3.75, "out of stock", ha="center", va="top", color=GREY, fontsize=9)
    for depth, text in enumerate(["depth 0", "depth 1", "depth 2", "depth 3"]):
        ax.text(-1.35, -depth, text, ha="left", va="center", color=GREY, fontsize=9)
    ax.set(xlim=(-1.4, trie.n_ranks - 0.5), ylim=(-4.05, 0.35))
    ax.set_title("What may follow the codes 1, 0? A walk, then the node's children", loc="left", fontsize=11)
    ax.axis("off")


def draw_mask(ax: Axes, live: semid.Trie) -> None:
    """Draw the row of scores that a mask leaves."""
    first = np.cumsum([WORDS, *SIZES])
    tokens = first[2] + np.arange(SIZES[2])
    scores = np.zeros((1, first[-1]), np.float32)
    live.mask_inplace(scores, live.walk([PREFIX]), depth=2, tokens=tokens)
    for token, kept in enumerate(np.isfinite(scores[0])):
        ax.add_patch(Rectangle((token, 0), 0.94, 0.6, facecolor=BLUE if kept else "#EDEDED", edgecolor="none"))
        ax.text(token + 0.47, 0.3, "score" if kept else "-inf", ha="center", va="center", fontsize=8,
                color="white" if kept else GREY)  # fmt: skip
    names = ["words", *(f"codes 0 .. {size - 1} of level {level}" for level, size in enumerate(SIZES))]
    for name, low, high in zip(names, (0, *first[:-1]), first, strict=True):
        ax.text((low + high) / 2, -0.12, name, ha="center", va="top", fontsize=9)
    ax.set(xlim=(-0.2, first[-1] + 0.2), ylim=(-0.45, 0.75))
    ax.set_title("The row of scores that is left: one column per token", loc="left", fontsize=11)
    ax.axis("off")


def draw(path: str | Path) -> None:
    """Draw the picture into a PNG file."""
    trie = semid.Trie.from_codes(CODES, codebook_sizes=SIZES)
    live = trie.restrict(np.arange(trie.n_ranks) != OUT_OF_STOCK)
    figure, (tree, mask) = plt.subplots(
        2, 1, figsize=(8.4, 5.2), layout="constrained", gridspec_kw=dict(height_ratios=[4, 1.1])
    )
    draw_tree(tree, trie, live)
    draw_mask(mask, live)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("constraint.png"))
