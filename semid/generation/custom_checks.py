"""What ``model.generate`` was told besides the prompts, which a search behind it would have to leave out: refused."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

from semid.errors import InvalidValueError
from semid.generation.interface import CACHE_NAMES, OWN_CACHES

__all__ = ["check_call"]

# Tensors that generate hands to every search, and that this one reads or makes itself.
READ = frozenset({"attention_mask", "position_ids", "cache_position"})


def check_call(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    model_kwargs: Mapping[str, Any],
    *,
    n_levels: int,
    do_sample: bool,
) -> None:
    """Raise if ``model.generate`` was told what would change the result and is not applied.

    Parameters
    ----------
    model, input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs
        What ``model.generate`` hands to a ``custom_generate``.
    n_levels : int
        Tokens of an ID.
    do_sample : bool
        Whether the search draws items.
    """
    repeated = max(generation_config.num_beams or 1, generation_config.num_return_sequences or 1)
    if repeated > 1:
        raise InvalidValueError(
            f"the prompts have been repeated: expected num_beams and num_return_sequences of 1, got {repeated}. "
            "Give the number of beams to beam_search alone."
        )
    if len(logits_processor):
        raise InvalidValueError(
            f"logits processors are not applied by this search: expected none, got {_names(logits_processor)}. "
            "Give do_sample and temperature to beam_search, or use a SidLogitsProcessor without custom_generate."
        )
    if generation_config.do_sample and not do_sample:
        raise InvalidValueError(
            "the search was not told to draw: expected do_sample=False, got do_sample=True. "
            "Give do_sample=True to beam_search, or do_sample=False to generate."
        )
    others = [one for one in stopping_criteria if not isinstance(one, MaxLengthCriteria | EosTokenCriteria)]
    if others:
        raise InvalidValueError(
            f"stopping criteria are not applied by this search: expected none, got {_names(others)}. Leave them, "
            "max_time and stop_strings out: every answer has one token per level."
        )
    _check_room(model, input_ids.shape[1], stopping_criteria, generation_config, n_levels)
    _check_cache(generation_config.cache_implementation, model_kwargs)
    unread = sorted(
        name for name, value in model_kwargs.items() if isinstance(value, torch.Tensor) and name not in READ
    )
    if unread:
        raise InvalidValueError(
            f"inputs are not read by this search: expected input_ids and attention_mask, got {unread} as well. "
            "Leave them out."
        )


def _check_room(model: Any, length: int, stopping_criteria: Any, generation_config: Any, n_levels: int) -> None:
    limits = [one.max_length for one in stopping_criteria if isinstance(one, MaxLengthCriteria)]
    most = min(limits, default=length + n_levels)
    # Where nobody has set a limit, generate takes that of the model's positions; the last token of an ID needs none.
    chosen = generation_config.max_new_tokens is not None or most != _n_positions(model)
    if chosen and most < length + n_levels:
        raise InvalidValueError(
            f"an ID does not fit: expected max_new_tokens of {n_levels} or more, or a max_length of "
            f"{length + n_levels} or more, got room for {most - length}. Pass max_new_tokens={n_levels}."
        )


def _n_positions(model: Any) -> int | None:
    return getattr(model.config, "max_position_embeddings", None)


def _check_cache(implementation: Any, model_kwargs: Mapping[str, Any]) -> None:
    """Raise if there is another cache than the empty one that generate makes by default."""
    cache = next((model_kwargs[name] for name in CACHE_NAMES if model_kwargs.get(name) is not None), None)
    own = cache is None or (
        isinstance(cache, DynamicCache | EncoderDecoderCache)
        and not getattr(cache, "_is_user_defined", False)
        and not cache.get_seq_length()
    )
    if implementation not in OWN_CACHES or not own:
        got = f"a {type(cache).__name__}" if implementation in OWN_CACHES else repr(implementation)
        raise InvalidValueError(
            f"a cache cannot be passed: expected no cache and no cache_implementation, got {got}. "
            "Leave them out: the search keeps its own cache, one row per request."
        )


def _names(objects: Any) -> list[str]:
    return [type(one).__name__ for one in objects]
