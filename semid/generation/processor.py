"""The constraint as Hugging Face takes it: a logits processor, and a prefix function, that keep no state."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from transformers import LogitsProcessor

from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie import Trie
from semid.trie.mask import mask_torch_inplace
from semid.vocabulary import SidVocabulary

__all__ = ["SidLogitsProcessor", "check_pair", "check_vocab", "prefix_allowed_tokens_fn"]

IntArray = npt.NDArray[np.integer[Any]]

# Score of the tokens that stay allowed in a row whose allowed tokens another processor had all removed. Finite, so that
# sampling has something to draw; far below any sum of log-probabilities, so that no beam is promoted by it; within
# float16.
FORCED = -1e4


@final
class SidLogitsProcessor(LogitsProcessor):
    """Let ``model.generate`` produce only the semantic IDs of a trie.

    The node of a row follows from its generated tokens at each call, so one object serves any number of calls, threads
    and beam orders. A row whose ID is complete, or that has left the trie, may only end.

    Parameters
    ----------
    trie : Trie or sequence of n_requests tries
        One for all requests or one for each, such as what each user may see. ``generate`` repeats a request for its
        beams or samples, and so row r belongs to request ``r // (rows / n_requests)``.
    vocab : SidVocabulary
    prompt_len : int
        Columns of ``input_ids`` before the first generated token: the length of the padded prompt for a decoder-only
        model, 1 (the start token) for an encoder-decoder.
    eos_token_id : int, optional
        Token that ends a row; default: that of `vocab`. Without any, pass ``max_new_tokens=trie.n_levels`` to
        ``generate``.
    inplace : bool, default=True
        Overwrite the scores given. ``generate`` does not read them again, except to return them when
        ``output_logits=True`` without beams: then pass False, which costs one more array of scores.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If trie and vocabulary have different shapes, or `prompt_len` is no length.

    Examples
    --------
    >>> import semid, torch
    >>> trie = semid.Trie.from_codes([[0, 2], [1, 0]])
    >>> vocab = semid.SidVocabulary.from_token_ids([[4, 5], [6, 7, 8]], eos_token_id=1)
    >>> processor = SidLogitsProcessor(trie, vocab, prompt_len=1)
    >>> processor(torch.tensor([[3, 4], [3, 5]]), torch.zeros(2, 9)).isfinite().nonzero()
    tensor([[0, 8],
            [1, 6]])
    """

    # It needs the whole row of generated tokens; continuous batching hands over the last token alone.
    supports_continuous_batching = False

    def __init__(
        self,
        trie: Trie | Sequence[Trie],
        vocab: SidVocabulary,
        *,
        prompt_len: int,
        eos_token_id: int | None = None,
        inplace: bool = True,
    ) -> None:
        self.trie = tuple(trie) if isinstance(trie, list | tuple) and trie else trie
        for one in self.trie if isinstance(self.trie, tuple) else (self.trie,):
            check_pair(one, vocab)
        self.vocab = vocab
        self.prompt_len = _check_prompt_len(prompt_len)
        self.eos_token_id = _check_eos(vocab.eos_token_id if eos_token_id is None else eos_token_id)
        self.inplace = inplace

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores with -inf for every token that does not lead to an item.

        Parameters
        ----------
        input_ids : torch.Tensor of shape (rows, length), integers
            Prompt and generated tokens.
        scores : torch.Tensor of shape (rows, vocabulary), floating
            Logits or log-probabilities of the next token; overwritten unless ``inplace=False``.

        Returns
        -------
        scores : torch.Tensor of shape (rows, vocabulary)
        """
        if not self.inplace:
            scores = scores.clone()
        generated = _generated(input_ids, self.prompt_len)
        if not isinstance(self.trie, tuple):
            self._constrain(self.trie, generated, scores)  # type: ignore[arg-type]
            return scores
        per_request, left = divmod(len(generated), len(self.trie))
        if left:
            raise InvalidValueError(
                f"tries do not fit the batch: expected a multiple of {len(self.trie)} rows, got {len(generated)}. "
                "Give one trie per request, or one for all."
            )
        for request, trie in enumerate(self.trie):
            rows = slice(request * per_request, (request + 1) * per_request)
            self._constrain(trie, generated[rows], scores[rows])
        return scores

    def _constrain(self, trie: Trie, generated: IntArray, scores: torch.Tensor) -> None:
        """Overwrite the scores of rows that share a trie."""
        depth = generated.shape[1]
        if depth >= trie.n_levels:
            kept = _finite(scores[:, _end_token(self.eos_token_id)])
            scores.fill_(-torch.inf)
            scores[:, self.eos_token_id] = kept
            return
        nodes = trie.walk(self.vocab.to_codes(generated, errors="ignore"))
        tokens = self.vocab.level_tokens[depth][: trie.codebook_sizes[depth]]
        lost = torch.from_numpy(np.flatnonzero(nodes < 0)).to(scores.device)
        # Without an end token, a lost row goes on with some token of the level; it can never become an item.
        token = int(tokens[0]) if self.eos_token_id is None else self.eos_token_id
        kept = _finite(scores[lost, token])
        mask_torch_inplace(trie, scores, nodes, depth=depth, tokens=tokens)
        scores[lost, token] = kept
        self._revive(trie, scores, nodes, depth, tokens)

    def _revive(self, trie: Trie, scores: torch.Tensor, nodes: IntArray, depth: int, tokens: IntArray) -> None:
        """Give the children of a row a finite score where all of them have -inf."""
        rows = np.flatnonzero(nodes >= 0)
        ranks = trie.node_ranges(nodes[rows], depth=depth)[:, 0]
        first = torch.from_numpy(tokens[trie.codes_of(ranks)[:, depth]]).to(scores.device)
        # One look per row, at the code of its first item: only where that has -inf, by the model or by a restriction,
        # can all others have it, too.
        suspects = rows[scores[torch.from_numpy(rows).to(scores.device), first].isneginf().cpu().numpy()]
        if not len(suspects):
            return
        row_starts, codes = trie.allowed(nodes[suspects], depth=depth)
        for number, row in enumerate(suspects):
            allowed = torch.from_numpy(tokens[codes[row_starts[number] : row_starts[number + 1]]]).to(scores.device)
            if len(allowed) and scores[row, allowed].isneginf().all():
                scores[row, allowed] = FORCED


def prefix_allowed_tokens_fn(
    trie: Trie, vocab: SidVocabulary, *, prompt_len: int, eos_token_id: int | None = None
) -> Callable[[int, torch.Tensor], list[int]]:
    """Return the constraint as the ``prefix_allowed_tokens_fn`` argument of ``model.generate``.

    It allows what `SidLogitsProcessor` allows, which does the same faster.

    Parameters
    ----------
    trie : Trie
    vocab : SidVocabulary
    prompt_len : int
        Columns before the first generated token; 1 for an encoder-decoder.
    eos_token_id : int, optional
        Token that ends a row; default: that of `vocab`.

    Returns
    -------
    function : callable
        ``(batch_id, input_ids of shape (length,)) -> list of token ids``.
    """
    check_pair(trie, vocab)
    prompt_len = _check_prompt_len(prompt_len)
    eos = _check_eos(vocab.eos_token_id if eos_token_id is None else eos_token_id)

    def allowed_tokens(batch_id: int, input_ids: torch.Tensor) -> list[int]:
        generated = _generated(input_ids[None], prompt_len)[0]
        depth = len(generated)
        if depth >= trie.n_levels:
            return [_end_token(eos)]
        codes = trie.children(vocab.to_codes(generated, errors="ignore"))
        if len(codes) == 0:
            return [int(vocab.level_tokens[depth][0]) if eos is None else eos]
        return vocab.level_tokens[depth][codes].tolist()  # type: ignore[no-any-return]

    return allowed_tokens


def check_pair(trie: Trie, vocab: SidVocabulary) -> None:
    """Raise unless every code of the trie has a token in the vocabulary."""
    if not isinstance(trie, Trie):
        raise InvalidTypeError(
            f"trie has a wrong type: expected one semid.Trie, got {type(trie).__name__}. Build it with Trie.from_codes."
        )
    check_vocab(vocab)
    sizes = vocab.codebook_sizes
    if trie.n_levels != vocab.n_levels or any(a > b for a, b in zip(trie.codebook_sizes, sizes, strict=True)):
        raise InvalidValueError(
            f"trie and vocabulary have different shapes: expected codebooks of at most {sizes} codes, got "
            f"{trie.codebook_sizes}. Make both from the same codes."
        )


def check_vocab(vocab: SidVocabulary) -> None:
    """Raise unless `vocab` is a vocabulary that knows its token ids."""
    if not isinstance(vocab, SidVocabulary):
        raise InvalidTypeError(
            f"vocab has a wrong type: expected a semid.SidVocabulary, got {type(vocab).__name__}. Make one first."
        )
    _ = vocab.level_tokens  # raises when it has not been extended


def _generated(input_ids: torch.Tensor, prompt_len: int) -> IntArray:
    if input_ids.shape[1] < prompt_len:
        raise InvalidValueError(
            f"prompt_len is too large: expected at most {input_ids.shape[1]}, got {prompt_len}. "
            "It is the padded length of the prompt, or 1 for an encoder-decoder."
        )
    return np.asarray(input_ids[:, prompt_len:].cpu().numpy(), np.int64)


def _finite(scores: torch.Tensor) -> torch.Tensor:
    return torch.where(scores.isneginf(), FORCED, scores)


def _check_prompt_len(prompt_len: int) -> int:
    try:
        length = operator.index(prompt_len)
    except TypeError as error:
        raise InvalidTypeError(
            f"prompt_len has a wrong type: expected an integer, got {prompt_len!r}. Pass input_ids.shape[1]."
        ) from error
    if length < 0:
        raise InvalidValueError(f"prompt_len is negative: expected 0 or more, got {length}. Pass input_ids.shape[1].")
    return length


def _check_eos(eos_token_id: int | None) -> int | None:
    try:
        return None if eos_token_id is None else operator.index(eos_token_id)
    except TypeError as error:
        raise InvalidTypeError(
            f"eos_token_id has a wrong type: expected one integer, got {eos_token_id!r}. Choose the one to end with."
        ) from error


def _end_token(eos_token_id: int | None) -> int:
    if eos_token_id is None:
        raise InvalidValueError(
            "an ID is complete and nothing may follow: expected an end token, got none. "
            "Pass eos_token_id, or max_new_tokens=n_levels to generate."
        )
    return eos_token_id
