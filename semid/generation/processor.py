"""The constraint as ``model.generate`` takes it in ``logits_processor``: one object, without state."""

from collections.abc import Sequence
from itertools import groupby
from typing import final

import torch
from transformers import LogitsProcessor

from semid._arrays import IntArray
from semid.errors import InvalidValueError
from semid.generation.allowing import allow_children, allow_one
from semid.generation.generated import check_eos, check_prompt_len, end_token, token_rows
from semid.generation.pairing import check_pair
from semid.trie import Trie
from semid.trie.masking import check_tokens
from semid.trie.token_walk import walk_tokens
from semid.vocabulary import SidVocabulary

__all__ = ["SidLogitsProcessor"]


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
        model, 1 (the start token) for an encoder-decoder. With a smaller number, the end of a prompt is read as the
        beginning of an ID: its row has left the trie and may only end, so that all rows come back without an item. No
        error says so, since a row that has left the trie is not wrong in itself, and nothing of a call is remembered.
    eos_token_id : int, optional
        Token that ends a row; default: that of `vocab`. Without any, pass ``max_new_tokens=trie.n_levels`` to
        ``generate``. No end token of the model may be the token of a code before the last level:
        ``generate`` would end rows in the middle of an ID and lose items, and a processor does not see the model to
        tell. Look at ``model.generation_config.eos_token_id``; `semid.generate` does, and finds all items even so.
    inplace : bool, default=True
        Overwrite the scores given. ``generate`` does not read them again, except to return them when
        ``output_logits=True`` without beams: then pass False, which costs one more array of scores.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If trie and vocabulary have different shapes or are of different catalogues, views or generations; if
        `prompt_len` is no length.

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
        self.prompt_len = check_prompt_len(prompt_len)
        self.eos_token_id = check_eos(eos_token_id, vocab)
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
        token_ids, shape = token_rows(input_ids, self.prompt_len), scores.shape
        if len(shape) != 2 or shape[0] != len(token_ids) or shape[1] <= (self.eos_token_id or 0):
            raise InvalidValueError(
                f"scores have a wrong shape: expected ({len(token_ids)}, more than {self.eos_token_id or 0}), one "
                f"column per token, got {tuple(shape)}. Has the model been resized for the vocabulary?"
            )
        if not isinstance(self.trie, tuple):
            self._constrain(self.trie, token_ids, scores)  # type: ignore[arg-type]
            return scores
        per_request, left = divmod(len(token_ids), len(self.trie))
        if left:
            raise InvalidValueError(
                f"tries do not fit the batch: expected a multiple of {len(self.trie)} rows, got {len(token_ids)}. "
                "Give one trie per request, or one for all."
            )
        first = 0
        for _, neighbours in groupby(self.trie, key=id):  # requests side by side that share a trie are one piece
            tries = list(neighbours)
            rows = slice(first, first + len(tries) * per_request)
            self._constrain(tries[0], token_ids[rows], scores[rows])
            first = rows.stop
        return scores

    def _constrain(self, trie: Trie, token_ids: IntArray, scores: torch.Tensor) -> None:
        """Overwrite the scores of rows that share a trie."""
        depth = token_ids.shape[1] - self.prompt_len
        if depth >= trie.n_levels:
            allow_one(scores, end_token(self.eos_token_id))
            return
        vocab, size, n_columns = self.vocab, trie.codebook_sizes[depth], scores.shape[1]
        tokens, tables = vocab.level_tokens[depth][:size], vocab.tables
        if vocab.highest_tokens[depth] >= n_columns:
            check_tokens(tokens, size=size, n_columns=n_columns)
        if tables is None:
            nodes = trie.walk(vocab.to_codes(token_ids[:, self.prompt_len :], errors="ignore"))
        else:
            nodes = walk_tokens(trie, token_ids, self.prompt_len, tables)
        # Without an end token, a lost row goes on with some token of the level; it can never become an item.
        lost_token = int(tokens[0]) if self.eos_token_id is None else self.eos_token_id
        allow_children(trie, scores, nodes, depth=depth, tokens=tokens, lost_token=lost_token)
