"""Beam search over the trie: the prompt once per request, then only beams that lead to items."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.forward import open_forward
from semid.generation.output import BeamOutput
from semid.generation.processor import check_pair
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["generate"]

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.float32]

NORMALIZERS = ("full", "window", "allowed")


@torch.inference_mode()
def generate(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    trie: Trie,
    vocab: SidVocabulary,
    num_beams: int,
    normalize: str = "full",
    exclude: Sequence[Iterable[int] | None] | None = None,
    num_return: int | None = None,
) -> BeamOutput:
    """Return the best items for each prompt.

    The same items in the same order as ``model.generate`` with `num_beams` beams, a `SidLogitsProcessor` and
    ``max_new_tokens=n_levels`` returns, less its repetitions; the prompt is read once per request instead of once per
    beam, and no beam is spent on anything but items. Other settings of the model's ``generation_config``, such as
    penalties, are not applied.

    Parameters
    ----------
    model : transformers model
        Decoder-only or encoder-decoder, in evaluation mode; it is not changed.
    inputs : mapping of str to torch.Tensor of shape (batch, length)
        ``input_ids`` and, unless nothing is padded, ``attention_mask``, as a tokenizer returns them; padded on the left
        for a decoder-only model. For an encoder-decoder also ``decoder_input_ids``, if the answer begins with
        more than the start token; all of its rows have one length, and its first column is the start token.
    trie : Trie
    vocab : SidVocabulary
    num_beams : int
        May exceed the number of items.
    normalize : {"full", "window", "allowed"}, default="full"
        Which probabilities a score sums up: over the whole vocabulary of the model, as Hugging Face does; over the
        codes of the level; or over the codes that may follow, which favours IDs whose prefixes few items share.
    exclude : sequence of batch sequences of int, optional
        Ranks that each request must not return, such as the items that a user has seen. None and entries of -1 exclude
        nothing, so that the ``items`` of an earlier output may be passed to get the next best.
    num_return : int, optional
        Items per request, at most `num_beams`; default: `num_beams`.

    Returns
    -------
    BeamOutput
        ``items, codes, scores, n_valid``.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If an argument is wrong, the model is in training mode or keeps no cache, the vocabulary does not fit it, or
        its logits are not numbers.
    """
    check_pair(trie, vocab)
    num_beams = _check_count(num_beams, "num_beams")
    num_return = num_beams if num_return is None else _check_count(num_return, "num_return", at_most=num_beams)
    if normalize not in NORMALIZERS:
        raise InvalidValueError(f"normalize is unknown: expected one of {NORMALIZERS}, got {normalize!r}.")
    forward = open_forward(model, inputs, last_token=max(int(tokens.max()) for tokens in vocab.level_tokens))
    excluded = _check_exclude(exclude, forward.batch)

    nodes: IntArray = np.zeros((forward.batch, 1), np.int64)
    scores: FloatArray = np.zeros((forward.batch, 1), np.float32)
    logits = forward.prompt()
    for depth in range(trie.n_levels):
        tokens = vocab.level_tokens[depth]
        log_probs = _log_probs(logits, tokens, normalize, trie, nodes, depth)
        if np.isnan(log_probs[nodes >= 0]).any():
            raise InvalidValueError(
                f"the model's logits are not numbers: expected numbers at level {depth}, got nan. "
                "Check its weights; float16 may overflow where bfloat16 does not."
            )
        scores, rows, codes, nodes = trie.select(log_probs, scores, nodes, depth=depth, k=num_beams, exclude=excluded)
        if depth + 1 < trie.n_levels:
            # Slots that no request fills get no row of the model; filled ones come first.
            width = max(1, int((nodes >= 0).sum(axis=1).max()))
            scores, nodes = scores[:, :width], nodes[:, :width]
            logits = forward.step(np.maximum(rows[:, :width], 0), tokens[np.maximum(codes[:, :width], 0)])
    return BeamOutput.from_ranks(trie, nodes[:, :num_return], scores[:, :num_return])


def _log_probs(
    logits: torch.Tensor, tokens: IntArray, normalize: str, trie: Trie, nodes: IntArray, depth: int
) -> FloatArray:
    """Return the log-probabilities of the trie's codes of a level, shape (batch, beams, codebook_size)."""
    # In float32, as Hugging Face does, also for a model in half precision.
    window = logits[:, torch.tensor(tokens, device=logits.device)].float()
    size = trie.codebook_sizes[depth]
    if normalize == "full":
        log_probs = window - logits.float().logsumexp(dim=1, keepdim=True)
    else:
        if normalize == "allowed":
            row_starts, codes = trie.allowed(nodes.reshape(-1), depth=depth)
            closed = np.ones(window.shape, np.bool_)
            closed[np.repeat(np.arange(len(window)), np.diff(row_starts)), codes] = False
            window = window.masked_fill(torch.from_numpy(closed).to(window.device), -torch.inf)
        log_probs = window.log_softmax(dim=1)
    return log_probs[:, :size].reshape(*nodes.shape, size).cpu().numpy()


def _check_count(value: int, name: str, *, at_most: int | None = None) -> int:
    try:
        count = operator.index(value)
    except TypeError as error:
        raise InvalidTypeError(f"{name} has a wrong type: expected an integer, got {value!r}. Pass a count.") from error
    if count < 1 or (at_most is not None and count > at_most):
        limit = "1 or more" if at_most is None else f"1 .. {at_most}"
        remedy = "Search at least one beam." if at_most is None else "Raise num_beams to return more items."
        raise InvalidValueError(f"{name} is out of range: expected {limit}, got {count}. {remedy}")
    return count


def _check_exclude(exclude: Sequence[Iterable[int] | None] | None, batch: int) -> list[IntArray] | None:
    if exclude is None:
        return None
    arrays = [_as_ranks(ranks) for ranks in exclude]
    if len(arrays) != batch or any(ranks.ndim != 1 for ranks in arrays):
        raise InvalidValueError(
            f"exclude is wrong: expected {batch} sequences of ranks, got {len(arrays)} of shapes "
            f"{[ranks.shape for ranks in arrays[:3]]}. Give one sequence per request."
        )
    return [ranks[ranks != -1] for ranks in arrays]


def _as_ranks(ranks: Any) -> IntArray:
    if isinstance(ranks, torch.Tensor):
        ranks = ranks.cpu().numpy()
    elif isinstance(ranks, Iterable) and not isinstance(ranks, np.ndarray):
        ranks = list(ranks)  # a set, too
    array = np.asarray([] if ranks is None else ranks)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise InvalidTypeError(
            f"exclude has a wrong dtype: expected integers, got {array.dtype}. Pass ranks, not item ids."
        )
    return array.astype(np.int64)
