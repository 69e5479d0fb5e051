"""Beam search written out, one level at a time, to look at: what `semid.generate` does, with the beams it keeps.

    log p(code | prompt, codes so far)   one plain call of the model per level, all beams at once
    Trie.select                          of all children of all beams, the best num_beams
    Trie.prefix_range                    the items that a beam can still become

`semid.generate` reads the prompt once, and takes no logarithms of words that are no codes; the beams are the same.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

import semid

__all__ = ["Beam", "beam_steps"]


class Beam(NamedTuple):
    """A beam that is alive after a level.

    Attributes
    ----------
    codes : tuple of int
        What it has written.
    score : float
        Sum of the log-probabilities of its codes.
    parent : int
        Place of the beam that it goes on from in the list of the level before; 0 at the first level.
    ranks : range
        Items that begin with its codes, by rank in the trie; excluded ones are among them.
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
        Ranks of the items that must not be answered.
    """
    scores = np.zeros((1, 1), dtype=np.float32)
    nodes = trie.walk(np.zeros((1, 1, 0), dtype=np.int64))
    written = np.zeros((1, 0), dtype=np.int64)
    steps: list[list[Beam]] = []
    for depth in range(trie.n_levels):
        log_probs = _last_logits(model, prompt, written).float().log_softmax(dim=-1).cpu().numpy()
        # Words, and codes of other levels, took their share of the probability, and are left out now.
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
