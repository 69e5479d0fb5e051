"""What the hooks of ``model.generate`` read: the generated part of each row, and the token that ends one."""

import operator

import numpy as np
import torch

from semid._arrays import IntArray
from semid.errors import InvalidTypeError, InvalidValueError
from semid.vocabulary import SidVocabulary, checks

__all__ = ["check_eos", "check_prompt_len", "end_token", "generated_part", "token_rows"]


def generated_part(input_ids: torch.Tensor, prompt_len: int) -> IntArray:
    """Return the tokens behind the prompt, shape (rows, depth), or raise where rows are shorter than the prompt."""
    return token_rows(input_ids, prompt_len)[:, prompt_len:]


def token_rows(input_ids: torch.Tensor, prompt_len: int) -> IntArray:
    """Return prompts and what is behind them as int64, shape (rows, length), or raise where rows are shorter."""
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


def check_prompt_len(prompt_len: int) -> int:
    """Return a length, or raise an error."""
    try:
        length = operator.index(prompt_len)
    except TypeError as error:
        raise InvalidTypeError(
            f"prompt_len has a wrong type: expected an integer, got {prompt_len!r}. Pass input_ids.shape[1]."
        ) from error
    if length < 0:
        raise InvalidValueError(f"prompt_len is negative: expected 0 or more, got {length}. Pass input_ids.shape[1].")
    return length


def check_eos(eos_token_id: int | None, vocab: SidVocabulary) -> int | None:
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
