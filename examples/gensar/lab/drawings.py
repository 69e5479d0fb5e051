"""What the notebook draws: IDs side by side, a tree of prefixes with titles, and a beam search level by level.

The beam search is written out here, one level at a time, to look at the beams that `semid.generate` keeps:

    log p(code | prompt, codes so far)   one plain call of the model per level, all beams at once
    Trie.select                          the best num_beams of all children of all beams
    Trie.prefix_range                    the items that a beam can still become

`semid.generate` reads the prompt once and computes no probabilities of other tokens; its beams are the same.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

import semid

from ..output import BLUE, GREY, ORANGE

__all__ = ["Beam", "beam_levels", "beam_steps", "could_become", "id_strips", "title_tree"]

CodeArray = npt.NDArray[np.unsignedinteger[Any]]

# Colours of the codes that agree with the first item's: the deeper the level, the darker.
AGREEING = ("#CFE6F3", "#8CC5E3", "#4A9CC9", "#0072B2")
OTHER = "#EFEFEF"
# Width of a beam's box; the distance to the next level is 1.
BOX_WIDTH = 0.74


def id_strips(ax: Axes, titles: Sequence[str], codes: CodeArray, *, header: str) -> None:
    """Draw one row of codes per item; blue marks the leading codes that agree with the first item's.

    Parameters
    ----------
    ax : Axes
    titles : sequence of str
        Written to the left of the rows; empty strings where another panel shows them.
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
        Of a few dozen items at most, for example a restricted one.
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


class Beam(NamedTuple):
    """A beam that is alive after a level.

    Attributes
    ----------
    codes : tuple of int
        What it has written.
    score : float
        Sum of the log-probabilities of its codes.
    parent : int
        Index, in the list of the level before, of the beam that it continues; 0 at the first level.
    ranks : range
        Ranks of the items whose IDs begin with its codes, excluded ones included.
    """

    codes: tuple[int, ...]
    score: float
    parent: int
    ranks: range


@torch.inference_mode()
def beam_steps(
    model: Any,
    prompt: Sequence[int],
    *,
    trie: semid.Trie,
    vocab: semid.SidVocabulary,
    num_beams: int,
    exclude: Sequence[int] = (),
) -> list[list[Beam]]:
    """Return the beams that are alive after each level, best first.

    Parameters
    ----------
    model : PreTrainedModel
        In evaluation mode, decoder-only or encoder-decoder.
    prompt : sequence of int
        Token ids of one request.
    trie : Trie
    vocab : SidVocabulary
    num_beams : int
    exclude : sequence of int
        Ranks of the items that must not be returned.
    """
    scores = np.zeros((1, 1), dtype=np.float32)
    nodes = trie.walk(np.zeros((1, 1, 0), dtype=np.int64))
    written = np.zeros((1, 0), dtype=np.int64)
    steps: list[list[Beam]] = []
    for depth in range(trie.n_levels):
        log_probs = _last_logits(model, prompt, written).float().log_softmax(dim=-1).cpu().numpy()
        # The softmax is over the whole vocabulary; only the codes of this level may follow.
        kept = trie.select(
            log_probs[None, :, vocab.level_tokens[depth]], scores, nodes, depth=depth, k=num_beams, exclude=[exclude]
        )
        alive = kept.nodes[0] >= 0
        rows, codes = kept.rows[0, alive], kept.codes[0, alive]
        written = np.concatenate([written[rows], vocab.level_tokens[depth][codes][:, None]], axis=1)
        scores, nodes = kept.scores[:, alive], kept.nodes[:, alive]
        before = [beam.codes for beam in steps[-1]] if steps else [()]
        found = [(*before[row], int(code)) for row, code in zip(rows, codes, strict=True)]
        steps.append(
            [
                Beam(own, float(score), int(row), trie.prefix_range(own))
                for own, score, row in zip(found, scores[0], rows, strict=True)
            ]
        )
    return steps


def _last_logits(model: Any, prompt: Sequence[int], written: Any) -> torch.Tensor:
    """Return the logits behind each beam, shape (n_beams, vocabulary)."""
    asked = torch.tensor([list(prompt)] * len(written), device=model.device)
    tail = torch.as_tensor(written, device=model.device)
    if model.config.is_encoder_decoder:
        start = torch.full((len(tail), 1), model.config.decoder_start_token_id, device=model.device)
        logits: torch.Tensor = model(input_ids=asked, decoder_input_ids=torch.cat([start, tail], dim=1)).logits
    else:
        logits = model(input_ids=torch.cat([asked, tail], dim=1), use_cache=False).logits
    return logits[:, -1]


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
