"""What may follow: the constraint as ``model.generate`` takes it, a logits processor or a prefix function."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, final

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from semid._arrays import Array, BoolArray, IntArray
from semid._checks import check_count, check_integer
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.requests import check_pair
from semid.trie import Trie
from semid.trie.masking import check_tokens, mask_rows, walk_tokens
from semid.vocabulary import SidVocabulary, checks

__all__ = [
    "SidLogitsProcessor",
    "allow_children",
    "allow_one",
    "choose_eos",
    "prefix_allowed_tokens_fn",
]


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
        beginning of an ID: the row has left the trie and may only end. A call in which that is so for every row warns.
    eos_token_id : int, optional
        Token that ends a row; default: that of `vocab`. Without any, pass ``max_new_tokens=trie.n_levels`` to
        ``generate``. No end token of the model may be the token of a code before the last level:
        ``generate`` would end rows in the middle of an ID and lose items, and a processor does not see the model to
        tell. Look at ``model.generation_config.eos_token_id``; `semid.generate` does, and finds all items even so.
    inplace : bool, default=True
        Overwrite the scores given. ``generate`` does not read them again, except to return them when
        ``output_logits=True`` without beams: then pass False, which costs one more array of scores.
    generation_config : transformers.GenerationConfig, optional
        That of the model, ``model.generation_config``, to be checked for settings that close tokens of items.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If trie and vocabulary have different shapes or are of different catalogues, views or generations; if
        `prompt_len` is not an integer of 0 or more; if `generation_config` forces or forbids tokens such that items
        would be lost, such as BART's ``forced_eos_token_id``.

    Warns
    -----
    UserWarning
        In a call, if every row has left the trie, mostly since `prompt_len` is wrong; or if another processor has
        closed all tokens that lead to an item in a row, so that the choice among them is arbitrary.

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
        generation_config: Any = None,
    ) -> None:
        self.trie = tuple(trie) if isinstance(trie, list | tuple) and trie else trie
        for one in self.trie if isinstance(self.trie, tuple) else (self.trie,):
            check_pair(one, vocab)
        self.vocab = vocab
        self.prompt_len = check_count(prompt_len, "prompt_len", least=0, remedy="Pass input_ids.shape[1].")
        self.eos_token_id = choose_eos(eos_token_id, vocab)
        self.inplace = inplace
        check_generation_config(generation_config, vocab)

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
        check_tensor(scores, "scores")
        if not self.inplace:
            scores = scores.clone()
        token_ids, shape = token_rows(input_ids, self.prompt_len), scores.shape
        if len(shape) != 2 or shape[0] != len(token_ids) or shape[1] <= (self.eos_token_id or 0):
            raise InvalidValueError(
                f"scores have a wrong shape: expected ({len(token_ids)}, more than {self.eos_token_id or 0}), one "
                f"column per token, got {tuple(shape)}. Has the model been resized for the vocabulary?"
            )
        if not isinstance(self.trie, tuple):
            if not self._constrain(self.trie, token_ids, scores):  # type: ignore[arg-type]
                warn_of_lost_rows(self.prompt_len, token_ids.shape[1])
            return scores
        per_request, left = divmod(len(token_ids), len(self.trie))
        if left:
            raise InvalidValueError(
                f"tries do not fit the batch: expected a multiple of {len(self.trie)} rows, got {len(token_ids)}. "
                "Give one trie per request, or one for all."
            )
        first, alive = 0, False
        for _, neighbours in groupby(self.trie, key=id):  # requests side by side that share a trie are one piece
            tries = list(neighbours)
            rows = slice(first, first + len(tries) * per_request)
            alive = self._constrain(tries[0], token_ids[rows], scores[rows]) or alive
            first = rows.stop
        if not alive:
            warn_of_lost_rows(self.prompt_len, token_ids.shape[1])
        return scores

    def _constrain(self, trie: Trie, token_ids: IntArray, scores: torch.Tensor) -> bool:
        """Overwrite the scores of rows that share a trie; tell whether one of them can become an item or is one."""
        depth = token_ids.shape[1] - self.prompt_len
        if depth >= trie.n_levels:
            allow_one(scores, end_token(self.eos_token_id))
            nodes = self._walk(trie, token_ids[:, : self.prompt_len + trie.n_levels])
            return bool((nodes >= 0).any()) or not len(nodes)
        vocab, size, n_columns = self.vocab, trie.codebook_sizes[depth], scores.shape[1]
        tokens = vocab.level_tokens[depth][:size]
        if vocab.highest_tokens[depth] >= n_columns:
            check_tokens(tokens, size=size, n_columns=n_columns)
        nodes = self._walk(trie, token_ids)
        # Without an end token, a lost row goes on with some token of the level; it can never become an item.
        lost_token = int(tokens[0]) if self.eos_token_id is None else self.eos_token_id
        allow_children(trie, scores, nodes, depth=depth, tokens=tokens, lost_token=lost_token)
        return bool((nodes >= 0).any()) or not len(nodes)

    def _walk(self, trie: Trie, token_ids: IntArray) -> IntArray:
        tables = self.vocab.tables
        if tables is None:
            return trie.walk(self.vocab.to_codes(token_ids[:, self.prompt_len :], errors="ignore"))
        return walk_tokens(trie._levels, trie._alive, token_ids, self.prompt_len, tables)


def prefix_allowed_tokens_fn(
    trie: Trie | Sequence[Trie],
    vocab: SidVocabulary,
    *,
    prompt_len: int,
    eos_token_id: int | None = None,
    generation_config: Any = None,
) -> Callable[[int, torch.Tensor], list[int]]:
    """Return the constraint as the ``prefix_allowed_tokens_fn`` argument of ``model.generate``.

    It allows what `SidLogitsProcessor` allows, which does the same faster.

    Parameters
    ----------
    trie : Trie or sequence of n_requests tries
        One for all requests or one for each: ``generate`` calls the function with the number of the request that a beam
        belongs to. Before transformers 5.24, each sample of ``num_return_sequences`` without beams is a request of its
        own.
    vocab : SidVocabulary
    prompt_len : int
        Columns before the first generated token; 1 for an encoder-decoder. With a smaller number, the end of a prompt
        is read as the beginning of an ID, and all that may follow is the end token; no error says so.
    eos_token_id : int, optional
        Token that ends a row; default: that of `vocab`.
    generation_config : transformers.GenerationConfig, optional
        As for `SidLogitsProcessor`.

    Returns
    -------
    function : callable
        ``(batch_id, input_ids of shape (length,)) -> list of token ids``. It raises InvalidValueError for a `batch_id`
        that has no trie.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If a trie and the vocabulary do not belong together, `prompt_len` is not an integer of 0 or more, or
        `generation_config` forces or forbids tokens such that items would be lost.

    Warns
    -----
    UserWarning
        By the function, if ``model.generate`` forces a token where a code has to stand.

    Examples
    --------
    >>> import semid, torch
    >>> trie = semid.Trie.from_codes([[0, 2], [1, 0]])
    >>> vocab = semid.SidVocabulary.from_token_ids([[4, 5], [6, 7, 8]], eos_token_id=1)
    >>> allowed = prefix_allowed_tokens_fn([trie, trie.restrict([1])], vocab, prompt_len=1)
    >>> allowed(0, torch.tensor([3])), allowed(1, torch.tensor([3])), allowed(1, torch.tensor([3, 5]))
    ([4, 5], [5], [6])
    """
    tries = tuple(trie) if isinstance(trie, list | tuple) and trie else (trie,)
    for one in tries:
        check_pair(one, vocab)
    prompt_len = check_count(prompt_len, "prompt_len", least=0, remedy="Pass input_ids.shape[1].")
    eos = choose_eos(eos_token_id, vocab)
    check_generation_config(generation_config, vocab)
    one_for_all = not isinstance(trie, list | tuple)

    def allowed_tokens(batch_id: int, input_ids: torch.Tensor) -> list[int]:
        check_tensor(input_ids, "input_ids")
        if not one_for_all and not 0 <= check_integer(batch_id, "batch_id") < len(tries):
            raise InvalidValueError(
                f"a request has no trie: expected batch ids below {len(tries)}, got {batch_id}. Give one trie per "
                "request, or one for all. Before transformers 5.24, each of num_return_sequences without beams is one."
            )
        of_request: Trie = tries[0 if one_for_all else batch_id]
        generated = generated_part(input_ids[None], prompt_len)[0]
        depth = len(generated)
        if depth == 0:
            warn_of_forced(prompt_len, vocab)
        if depth >= of_request.n_levels:
            return [end_token(eos)]
        codes = of_request.children(vocab.to_codes(generated, errors="ignore"))
        if len(codes) == 0:
            return [int(vocab.level_tokens[depth][0]) if eos is None else eos]
        return vocab.level_tokens[depth][codes].tolist()  # type: ignore[no-any-return]

    return allowed_tokens


# What a processor or a setting that closes tokens of items is to be told.
UNSET = "Unset it in model.generation_config, or pass a larger max_new_tokens to generate"


def check_generation_config(config: Any, vocab: SidVocabulary) -> None:
    """Raise if settings of ``model.generate`` force or forbid tokens such that items are lost.

    Parameters
    ----------
    config : transformers.GenerationConfig or None
    vocab : SidVocabulary
    """
    if config is None:
        return
    n_levels, levels = len(vocab.level_tokens), [set(level.tolist()) for level in vocab.level_tokens]
    every = set().union(*levels)
    words = [word for word in getattr(config, "bad_words_ids", None) or [] if len(word) == 1]
    found = {
        "forced_bos_token_id": getattr(config, "forced_bos_token_id", None) not in {None, *levels[0]},
        # It closes everything else at the last token that may be written.
        "forced_eos_token_id": getattr(config, "forced_eos_token_id", None) is not None
        and (getattr(config, "max_new_tokens", None) or 0) <= n_levels,
        "suppress_tokens": bool(every & _token_ids(getattr(config, "suppress_tokens", None))),
        "begin_suppress_tokens": bool(levels[0] & _token_ids(getattr(config, "begin_suppress_tokens", None))),
        "bad_words_ids": bool(every & {word[0] for word in words}),
        "min_new_tokens": (getattr(config, "min_new_tokens", None) or 0) > n_levels,
    }
    wrong = [name for name, closes in found.items() if closes]
    if wrong:
        shown = ", ".join(f"{name}={getattr(config, name)!r}" for name in wrong)
        raise InvalidValueError(
            f"generation_config closes tokens of items: expected no {' or '.join(wrong)}, got {shown}. {UNSET}."
        )


def _token_ids(tokens: Iterable[Any] | None) -> set[int]:
    return {int(token) for token in tokens} if tokens is not None else set()


def warn_of_forced(prompt_len: int, vocab: SidVocabulary) -> None:
    """Warn if ``model.generate``, which calls a prefix function, forces a token where a code has to stand.

    A prefix function is told neither the scores nor the settings. Those that force a token stand in the list of
    processors that is calling, and overrule what it allows.
    """
    frame = inspect.currentframe()
    for _ in range(6):
        frame = None if frame is None else frame.f_back
        processors = None if frame is None else frame.f_locals.get("self")
        if isinstance(processors, LogitsProcessorList):
            break
    else:
        return
    n_levels = len(vocab.level_tokens)
    for one in processors:
        kind = type(one).__name__
        # The end is forced at the last token that may be written: the third of three codes, say.
        if kind == "ForcedEOSTokenLogitsProcessor" and one.max_length - prompt_len <= n_levels:
            name, got = "forced_eos_token_id", f"the end at token {one.max_length - prompt_len} of an ID"
        elif (
            kind == "ForcedBOSTokenLogitsProcessor"
            and prompt_len == 1
            and one.bos_token_id not in vocab.level_tokens[0]
        ):
            name, got = "forced_bos_token_id", f"token {one.bos_token_id} in place of the first code"
        else:
            continue
        warnings.warn(
            f"generate loses all items: expected no {name}, which forces {got}. {UNSET}.", UserWarning, stacklevel=4
        )


def warn_of_lost_rows(prompt_len: int, length: int) -> None:
    """Warn that no row of a call can become an item, unless there is no item that could be reached at all."""
    if length == prompt_len:
        return
    warnings.warn(
        f"every row has left the trie: expected IDs after column {prompt_len}, the prompt_len, got rows of {length} "
        "columns of which none begins one there. prompt_len is the padded length of this call's prompts, or 1 for an "
        "encoder-decoder; forced_bos_token_id of the model's generation_config has the same effect.",
        UserWarning,
        stacklevel=4,
    )


# Score of the tokens that stay allowed in a row whose allowed tokens another processor had all removed. Finite, so that
# sampling has something to draw; far below any sum of log-probabilities, so that no beam is promoted by it; within
# float16.
FORCED = -1e4


def allow_one(scores: torch.Tensor, token: int) -> None:
    """Leave one token to every row, such as the end token after a complete ID."""
    kept = _finite(scores[:, token])
    scores.fill_(-torch.inf)
    scores[:, token] = kept


def allow_children(
    trie: Trie, scores: torch.Tensor, nodes: IntArray, *, depth: int, tokens: IntArray, lost_token: int
) -> None:
    """Leave each row the tokens of its node's children; `lost_token` to a row that has left the trie.

    Parameters
    ----------
    trie : Trie
    scores : torch.Tensor of shape (rows, vocabulary), any floating dtype, any device
        Changed in place.
    nodes : ndarray of shape (rows,), dtype int64
        Nodes at `depth`, -1 for a row that has left the trie.
    depth : int
    tokens : ndarray of shape (codebook_size,), dtype int64
        Column of `scores` for each code of level `depth`.
    lost_token : int
    """
    empty = mask_torch_inplace(trie, scores, nodes, depth=depth, tokens=tokens, lost_token=lost_token)
    if empty.any():
        _revive(trie, scores, np.flatnonzero(empty), nodes, depth=depth, tokens=tokens, lost_token=lost_token)


def _revive(
    trie: Trie, scores: torch.Tensor, rows: IntArray, nodes: IntArray, *, depth: int, tokens: IntArray, lost_token: int
) -> None:
    """Give the tokens that may follow a finite score in rows where all of them have -inf."""
    lost = nodes[rows] < 0
    if not lost.all():
        warnings.warn(
            f"another logits processor has closed every token that leads to an item, in {np.count_nonzero(~lost)} of "
            f"{len(nodes)} rows: expected one open, so the choice among them is arbitrary. Look for "
            "forced_eos_token_id, forced_bos_token_id, suppress_tokens, bad_words_ids and min_new_tokens in "
            f"model.generation_config. {UNSET}.",
            UserWarning,
            stacklevel=6,
        )
    scores[torch.from_numpy(rows[lost]), lost_token] = FORCED
    row_starts, codes = trie.allowed(nodes[rows], depth=depth)
    scores[torch.from_numpy(np.repeat(rows, np.diff(row_starts))), torch.from_numpy(tokens[codes])] = FORCED


def _finite(scores: torch.Tensor) -> torch.Tensor:
    return torch.where(scores.isneginf(), FORCED, scores)


def generated_part(input_ids: torch.Tensor, prompt_len: int) -> IntArray:
    """Return the tokens behind the prompt, shape (rows, depth), or raise where rows are shorter than the prompt."""
    return token_rows(input_ids, prompt_len)[:, prompt_len:]


def check_tensor(value: Any, name: str) -> None:
    """Raise unless a value is a tensor, as ``model.generate`` passes it."""
    if not isinstance(value, torch.Tensor):
        raise InvalidTypeError(
            f"{name} has a wrong type: expected a torch.Tensor, got {type(value).__name__}. Pass what generate passes."
        )


def token_rows(input_ids: torch.Tensor, prompt_len: int) -> IntArray:
    """Return prompts and what is behind them as int64, shape (rows, length), or raise where rows are shorter."""
    check_tensor(input_ids, "input_ids")
    shape = input_ids.shape
    if len(shape) != 2 or input_ids.is_floating_point():
        raise InvalidValueError(
            f"input_ids are wrong: expected integers of shape (rows, length), got {input_ids.dtype} of shape "
            f"{tuple(shape)}. Pass what generate passes."
        )
    if shape[1] < prompt_len:
        raise InvalidValueError(
            f"prompt_len is too large: expected at most {shape[1]}, got {prompt_len}. "
            "It is the padded length of the prompt, or 1 for an encoder-decoder."
        )
    # Each torch operation that is left out saves some 10 microseconds where the processor's code is cold, as it is
    # between two steps of a model: a slice of a tensor costs as much as the walk down the trie.
    return np.asarray((input_ids if input_ids.is_cpu else input_ids.cpu()).numpy(), np.int64)


def choose_eos(eos_token_id: int | None, vocab: SidVocabulary) -> int | None:
    """Return the end token, by default the vocabulary's, or raise unless it is a token of no level, or None."""
    return checks.check_eos(vocab.eos_token_id if eos_token_id is None else eos_token_id, vocab._level_tokens)


def end_token(eos_token_id: int | None) -> int:
    """Return the token that follows a complete ID, or raise where there is none."""
    if eos_token_id is None:
        raise InvalidValueError(
            "an ID is complete and nothing may follow: expected an end token, got none. "
            "Pass eos_token_id, or max_new_tokens=n_levels to generate."
        )
    return eos_token_id


# Minus infinity of the half types as bits: NumPy has no bfloat16.
HALF = {torch.bfloat16: np.int16(0xFF80 - (1 << 16)), torch.float16: np.int16(0xFC00 - (1 << 16))}


def mask_torch_inplace(
    trie: Trie,
    scores: torch.Tensor,
    nodes: Array,
    *,
    depth: int,
    tokens: Any,
    lost_token: int | None = None,
) -> BoolArray:
    """Overwrite with minus infinity every score that does not lead to an item.

    Parameters
    ----------
    trie : Trie
    scores : torch.Tensor of shape (rows, vocabulary), any floating dtype, any device
        Changed in place.
    nodes : ndarray of shape (rows,), dtype int64
        Nodes at `depth`, from `Trie.walk`: they are not checked. A row of node -1 loses all its scores, or all but one.
    depth : int
    tokens : ndarray of shape (codebook_size,), dtype int64
        Column of `scores` for each code of level `depth`; not checked either.
    lost_token : int, optional
        Column whose score a row of node -1 keeps.

    Returns
    -------
    empty : ndarray of shape (rows,), dtype bool
        True for a row whose scores are all minus infinity now.
    """
    shared = shared_array(scores)
    if shared is not None:
        array, neg_inf = shared
        return mask_rows(
            trie._levels, trie._alive, array, nodes, depth=depth, tokens=tokens, lost_token=lost_token, neg_inf=neg_inf
        )
    row_starts, codes = trie.allowed(nodes, depth=depth)
    lost = np.flatnonzero(nodes < 0) if lost_token is not None else np.empty(0, np.int64)
    rows = torch.from_numpy(np.concatenate([np.repeat(np.arange(len(nodes)), np.diff(row_starts)), lost]))
    columns = np.concatenate([np.asarray(tokens, np.int64)[codes], np.full(len(lost), lost_token or 0)])
    at = rows.to(scores.device), torch.from_numpy(columns).to(scores.device)
    kept = scores[at]
    scores.fill_(-torch.inf)
    scores[at] = kept
    best = torch.full(scores.shape[:1], -torch.inf, dtype=scores.dtype, device=scores.device)
    return best.scatter_reduce(0, at[0], kept, "amax").isneginf().cpu().numpy()


def shared_array(scores: torch.Tensor) -> tuple[Array, Any] | None:
    """Return an array on a tensor's memory and what minus infinity is in it; None where the memory is another device's.

    Scores of a half type come as int16, and minus infinity as its bits.
    """
    if not scores.is_cpu:
        return None
    scores = scores.detach() if scores.requires_grad else scores
    neg_inf: Any = -np.inf
    if scores.dtype in HALF:
        scores, neg_inf = scores.view(torch.int16), HALF[scores.dtype]
    array = scores.numpy()
    if not array.flags.c_contiguous:
        return None
    return array, neg_inf
