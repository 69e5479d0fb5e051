"""The beam search of transformers with semid's constraint, to compare `semid.generate` with it; --decoder hf.

Both return the same items in the same order, except where scores are equal within rounding. A `SidLogitsProcessor` has
one trie, and each request here has its own (what the user has is left out), so transformers is called once per request.
It reads the prompt once per beam, and takes logarithms of the whole vocabulary for each.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

import semid
from semid.errors import InvalidValueError

from ..dataset import IntArray

__all__ = ["Written", "generate_hf"]


class Written(NamedTuple):
    """The part of semid's `BeamOutput` that the evaluation reads.

    Attributes
    ----------
    codes : ndarray of shape (batch, num_return, n_levels), dtype int64
    n_valid : ndarray of shape (batch,), dtype int64
        Rows of `codes` that are answers; the others are -1.
    """

    codes: IntArray
    n_valid: IntArray


@torch.inference_mode()
def generate_hf(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    trie: semid.Trie,
    vocab: semid.SidVocabulary,
    num_beams: int,
    num_return: int,
    normalize: str = "full",
    exclude: Sequence[Iterable[int]] | None = None,
    candidates: Sequence[Iterable[int]] | None = None,
) -> Written:
    """Return what `semid.generate` returns, by ``model.generate``; the arguments are those of `semid.generate`.

    Raises
    ------
    InvalidValueError
        If `normalize` is not "full": transformers knows no other.
    """
    if normalize != "full":
        raise InvalidValueError(
            f"the decoder hf takes logarithms over the whole vocabulary: expected --normalize full, got "
            f"{normalize!r}. Pass --decoder semid."
        )
    n_rows = len(inputs["input_ids"])
    codes = np.full((n_rows, num_return, trie.n_levels), -1, dtype=np.int64)
    n_valid = np.zeros(n_rows, dtype=np.int64)
    for row in range(n_rows):
        live = np.zeros(trie.n_items, dtype=bool)
        live[... if candidates is None else np.asarray(candidates[row])] = True
        if exclude is not None:
            live[np.asarray(exclude[row])] = False
        own = trie.restrict(live)
        kept = inputs["attention_mask"][row].bool()
        prompt = inputs["input_ids"][row][kept][None]
        start = 1 if model.config.is_encoder_decoder else prompt.shape[1]
        # With more beams than items, some items would be repeated.
        n_beams = min(num_beams, own.n_items)
        if not n_beams:
            continue
        written = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            logits_processor=[semid.SidLogitsProcessor(own, vocab, prompt_len=start)],
            num_beams=n_beams,
            num_return_sequences=min(num_return, n_beams),
            max_new_tokens=trie.n_levels,
            do_sample=False,
        )
        found = vocab.to_codes(written[:, start : start + trie.n_levels].cpu().numpy(), errors="ignore")
        # A beam that found no item ends early or leaves the trie, where walk returns -1.
        real = found[trie.walk(found) >= 0]
        codes[row, : len(real)] = real
        n_valid[row] = len(real)
    return Written(codes, n_valid)
