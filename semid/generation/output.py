"""What a beam search returns: items, codes and scores per request, padded where the catalogue had no more."""

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch

from semid._arrays import FloatArray, IntArray
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.constraint import check_prompt_len
from semid.generation.inputs import check_count
from semid.generation.requests import check_pair
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["BeamOutput", "read_beams"]


class BeamOutput(NamedTuple):
    """The best items of each request, best first.

    Attributes
    ----------
    items : ndarray of shape (batch, num_return), dtype int64
        Ranks in the trie; -1 in empty slots. `SemanticIds.items_at` turns them into item ids.
    codes : ndarray of shape (batch, num_return, n_levels), dtype int64
        Their semantic IDs; -1 in empty slots.
    scores : ndarray of shape (batch, num_return), dtype float32
        Summed log-probabilities; -inf in empty slots.
    n_valid : ndarray of shape (batch,), dtype int64
        Slots that hold an item; they come first.
    outside : ndarray of shape (batch, num_return), dtype float32, or None
        Only with ``generate(..., outside=True)``: the probability that the model, free to write any token at each level
        of this ID, would have left the codes of the level somewhere; NaN in empty slots. Near 0, scores with
        ``normalize="window"`` are those with ``normalize="full"``.
    """

    items: IntArray
    codes: IntArray
    scores: FloatArray
    n_valid: IntArray
    outside: FloatArray | None = None

    @classmethod
    def empty(cls, batch: int, num_return: int, n_levels: int, *, outside: bool = False) -> Self:
        """Return an output without a single item."""
        return cls(
            np.full((batch, num_return), -1, np.int64),
            np.full((batch, num_return, n_levels), -1, np.int64),
            np.full((batch, num_return), -np.inf, np.float32),
            np.zeros(batch, np.int64),
            np.full((batch, num_return), np.nan, np.float32) if outside else None,
        )

    def put(self, rows: IntArray, found: "BeamOutput") -> None:
        """Overwrite some rows with those of another output."""
        for whole, part in zip(self._asdict().values(), found, strict=True):
            if whole is not None:
                whole[rows] = part

    @classmethod
    def from_ranks(cls, trie: Trie, ranks: IntArray, scores: FloatArray) -> Self:
        """Look the codes up and pad; `ranks` (batch, num_return) has its -1 entries last."""
        if min(ranks[:, -1].tolist(), default=0) >= 0:  # nothing to pad
            n_valid = np.full(len(ranks), ranks.shape[1], np.int64)
            return cls(ranks, trie.codes_of(ranks).astype(np.int64), scores, n_valid)
        valid = ranks >= 0
        codes = np.full((*ranks.shape, trie.n_levels), -1, np.int64)
        codes[valid] = trie.codes_of(ranks[valid])
        return cls(ranks, codes, np.where(valid, scores, np.float32(-np.inf)), valid.sum(axis=1))


def read_beams(
    sequences: Any, *, trie: Trie, vocab: SidVocabulary, prompt_len: int, num_return: int = 1, scores: Any = None
) -> BeamOutput:
    """Read what ``model.generate`` returned: drop duplicates, dead beams and everything that is no item.

    With more beams than the catalogue has items, Hugging Face fills up with repetitions and leftovers.

    Parameters
    ----------
    sequences : array-like or torch tensor of shape (batch * num_return, length), integers
        Token ids, prompt included; ``sequences`` of the output of ``generate``.
    trie : Trie
    vocab : SidVocabulary
    prompt_len : int
        Columns before the first generated token: the (padded) prompt length, or 1 for an encoder-decoder. With a
        smaller number, what stands there is no item, and ``n_valid`` is 0.
    num_return : int, default=1
        Rows per request: ``num_return_sequences``.
    scores : array-like or torch tensor of shape (batch * num_return,), optional
        ``sequences_scores``, taken over as they are: divided by the number of generated tokens, unless ``generate`` ran
        with ``length_penalty=0.0``. Default: 0 for each item.

    Returns
    -------
    BeamOutput

    Raises
    ------
    InvalidValueError
        If trie and vocabulary do not belong together, shapes disagree, `prompt_len` is negative, sequences are shorter
        than it, or `num_return` is below 1.
    InvalidTypeError
        If an argument is of another type.
    """
    check_pair(trie, vocab)
    prompt_len = check_prompt_len(prompt_len)
    num_return = check_count(num_return, "num_return", remedy="Pass num_return_sequences.")
    tokens = _as_array(sequences, "sequences")
    if tokens.ndim != 2 or len(tokens) % num_return:
        raise InvalidValueError(
            f"sequences have a wrong shape: expected (batch * {num_return}, length), got {tokens.shape}. "
            "Pass num_return_sequences as num_return."
        )
    if tokens.shape[1] < prompt_len:
        raise InvalidValueError(
            f"prompt_len is too large: expected at most {tokens.shape[1]}, got {prompt_len}. "
            "It is the padded length of the prompt, or 1 for an encoder-decoder."
        )
    given = np.zeros(len(tokens), np.float32) if scores is None else _as_array(scores, "scores").astype(np.float32)
    if given.shape != (len(tokens),):
        raise InvalidValueError(
            f"scores have a wrong shape: expected ({len(tokens)},), got {given.shape}. Pass sequences_scores."
        )
    generated = tokens[:, prompt_len : prompt_len + trie.n_levels]
    ranks: IntArray = np.full(len(tokens), -1, np.int64)
    if generated.shape[1] == trie.n_levels:
        ranks = trie.rank(vocab.to_codes(generated, errors="ignore"))
    by_request = np.where(np.isfinite(given), ranks, -1).reshape(-1, num_return)
    found: IntArray = np.full(by_request.shape, -1, np.int64)
    kept: FloatArray = np.full(by_request.shape, -np.inf, np.float32)
    for request, (row, row_scores) in enumerate(zip(by_request, given.reshape(-1, num_return), strict=True)):
        _, first = np.unique(row, return_index=True)  # the first of equal items is the best
        first = np.sort(first[row[first] >= 0])
        found[request, : len(first)] = row[first]
        kept[request, : len(first)] = row_scores[first]
    return BeamOutput.from_ranks(trie, found, kept)


def _as_array(values: Any, name: str) -> npt.NDArray[Any]:
    """Return numbers as an array; those of a tensor that numpy does not know, as float32."""
    if isinstance(values, torch.Tensor):
        values = (values.float() if values.is_floating_point() else values).cpu()
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise InvalidTypeError(
            f"{name} have a wrong type: expected numbers in rows of one length, got {type(values).__name__}. "
            f"Pass the {name if name == 'sequences' else 'sequences_scores'} that generate returns."
        )
    return array
