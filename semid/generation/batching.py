"""Prompts of any lengths in batches: like with like, no more at a time than memory holds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from semid.errors import InvalidTypeError

__all__ = ["batches", "bytes_per_token", "check_prompts", "padded"]

IntArray = npt.NDArray[np.integer[Any]]


def check_prompts(prompts: Iterable[Any]) -> list[IntArray]:
    """Return the token ids of each prompt, or raise an error that says which one is something else."""
    if isinstance(prompts, Mapping | str) or not isinstance(prompts, Iterable):
        raise InvalidTypeError(
            f"prompts have a wrong type: expected a sequence of lists of token ids, got {type(prompts).__name__}. "
            "Pass tokenizer(texts)['input_ids'], without padding."
        )
    return [_token_ids(prompt, row) for row, prompt in enumerate(prompts)]


def _token_ids(prompt: Any, row: int) -> IntArray:
    array = np.asarray(prompt.cpu() if isinstance(prompt, torch.Tensor) else prompt)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidTypeError(
            f"a prompt is no list of token ids: expected integers of shape (length,), got {array.dtype} of shape "
            f"{array.shape} as prompt {row}. Pass tokenizer(texts)['input_ids'], without padding."
        )
    return array.astype(np.int64)


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
