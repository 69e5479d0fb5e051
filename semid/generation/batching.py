"""Prompts of any lengths in batches: like with like, no more at a time than memory holds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from semid._arrays import IntArray
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = ["as_prompts", "batches", "bytes_per_token", "check_one_each", "padded"]


def as_prompts(prompts: Any) -> list[IntArray]:
    """Return the token ids of each prompt, or raise an error that says which is none."""
    if not isinstance(prompts, Iterable) or isinstance(prompts, Mapping | str) or getattr(prompts, "ndim", 1) == 0:
        raise InvalidTypeError(
            f"prompts have a wrong type: expected sequences of token ids, got {type(prompts).__name__}. "
            "Pass what the tokenizer returns as input_ids, without padding."
        )
    arrays = [_as_prompt(prompt, row) for row, prompt in enumerate(prompts)]
    lengths = [len(array) for array in arrays]
    if min(lengths, default=0) == 0:
        raise InvalidValueError(
            f"prompts are wrong: expected 1 or more of 1 or more tokens, got {len(lengths)}, the shortest of "
            f"{min(lengths, default=0)} tokens. Leave empty ones out."
        )
    return arrays


def _as_prompt(prompt: Any, row: int) -> IntArray:
    try:
        array = np.asarray(prompt.cpu() if isinstance(prompt, torch.Tensor) else prompt)
        got = f"{array.dtype} of shape {array.shape}"
    except (ValueError, TypeError):  # lists of different lengths within a list
        array, got = np.asarray(None), type(prompt).__name__
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise InvalidTypeError(
            f"prompt {row} is wrong: expected a sequence of token ids, got {got}. "
            "Pass what the tokenizer returns as input_ids, without padding."
        )
    return array.astype(np.int64)


def check_one_each(value: Any, name: str, n_prompts: int) -> None:
    """Raise unless an argument of `generate_many` is None or has an entry for each prompt."""
    if value is None:
        return
    if not isinstance(value, Sequence | np.ndarray | torch.Tensor) or getattr(value, "ndim", 1) == 0:
        raise InvalidTypeError(
            f"{name} has a wrong type: expected a sequence of {n_prompts}, got {type(value).__name__}. "
            "Give one per prompt."
        )
    if len(value) != n_prompts:
        raise InvalidValueError(
            f"{name} has a wrong length: expected {n_prompts}, got {len(value)}. Give one per prompt."
        )


def batches(lengths: Sequence[int], *, extra: int, most_tokens: int) -> Iterator[list[int]]:
    """Yield the numbers of the prompts of each batch, longest prompts first, so that a lack of memory shows at once.

    A batch of n prompts, the longest of length m, takes ``n * (m + extra)`` tokens; at most `most_tokens`, unless a
    single prompt takes more. Prompts of less than half the length of the longest wait for another batch, since their
    padding would cost more than it saves.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    batch: list[int] = []
    for row in order:
        full = batch and (
            (len(batch) + 1) * (lengths[batch[0]] + extra) > most_tokens or 2 * lengths[row] < lengths[batch[0]]
        )
        if full:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def bytes_per_token(model: Any) -> int:
    """Return how much memory the keys and values of one token take in all layers, and its states in one."""
    config = model.config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = 2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * head_dim
    # While a layer runs: the widest of its states and a handful of its usual ones.
    passing = 4 * config.hidden_size + (getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
    return int((kept + passing) * model.dtype.itemsize)


def padded(prompts: Sequence[Any], model: Any) -> dict[str, torch.Tensor]:
    """Return ``input_ids`` and ``attention_mask`` of prompts: padded on the left, on the right for an encoder."""
    longest = max(len(prompt) for prompt in prompts)
    input_ids = torch.full((len(prompts), longest), getattr(model.config, "pad_token_id", None) or 0)
    mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        at = slice(None, len(prompt)) if model.config.is_encoder_decoder else slice(longest - len(prompt), None)
        input_ids[row, at] = torch.as_tensor(prompt)
        mask[row, at] = 1
    return {"input_ids": input_ids, "attention_mask": mask}
