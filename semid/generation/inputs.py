"""What a model and its prompts must be before a search begins: every check, with the message that a user reads."""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import torch

from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.interface import CACHE_NAMES, most_positions

__all__ = [
    "batch_of",
    "check_flag",
    "check_inputs",
    "check_model",
    "check_positions",
    "count_tokens",
    "padding_token",
    "start_token",
]

INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def check_model(model: Any, *, last_token: int) -> None:
    """Raise unless `model` is a transformers model in evaluation mode whose vocabulary has `last_token`."""
    if getattr(model, "config", None) is None or not callable(getattr(model, "get_input_embeddings", None)):
        raise InvalidTypeError(
            f"model has a wrong type: expected a transformers model, got {type(model).__name__}. "
            "Pass the model whose generate you would call."
        )
    layers = _layers(model)
    # Weights that accelerate has moved elsewhere are fetched by its hooks when they are needed.
    if any(getattr(weight_of(one), "is_meta", False) and not hasattr(one, "_hf_hook") for one in layers):
        raise InvalidValueError(
            "the model has no weights: expected weights in memory, got the meta device. Load them first."
        )
    if layers[1] is None:
        _check_writes(model)
    if model.training:
        raise InvalidValueError(
            "the model is in training mode: expected evaluation mode, got dropout. Call model.eval() first."
        )
    n_tokens = _n_rows(layers)
    if last_token >= n_tokens:
        raise InvalidValueError(
            f"the vocabulary does not fit the model: expected token ids below {n_tokens}, got {last_token}. "
            "Call vocab.extend(tokenizer, model)."
        )


def _check_writes(model: Any) -> None:
    """Raise if a model has no output layer. A model that can generate may keep its output layer elsewhere."""
    can_generate = getattr(model, "can_generate", None)
    if callable(can_generate) and not can_generate():
        raise InvalidTypeError(
            f"the model writes no tokens: expected one with a language-model head, got {type(model).__name__}. "
            "Load it with AutoModelForCausalLM or AutoModelForSeq2SeqLM."
        )


def count_tokens(model: Any) -> int:
    """Return how many tokens a model both reads and writes; a resized model may have left one of its layers behind."""
    return _n_rows(_layers(model))


def _layers(model: Any) -> list[Any]:
    """Return the layers of a model that read and write tokens, None for one that it does not show."""
    return [getattr(model, name, lambda: None)() for name in ("get_input_embeddings", "get_output_embeddings")]


def _n_rows(layers: list[Any]) -> int:
    counts = [len(weight) for weight in map(weight_of, layers) if weight is not None]
    # Quantized layers may know their width alone.
    counts += [layer.out_features for layer in layers if weight_of(layer) is None and hasattr(layer, "out_features")]
    return min(counts)


def weight_of(layer: Any) -> torch.Tensor | None:
    """Return the weight of a layer; None where it is no tensor, as torch's dynamically quantized layers have it."""
    weight = getattr(layer, "weight", None)
    return weight if isinstance(weight, torch.Tensor) else None


def check_inputs(
    inputs: Mapping[str, torch.Tensor | None],
    *,
    encoder_decoder: bool,
    unused: Set[str],
    n_tokens: int,
    padding: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``input_ids`` and ``attention_mask``, or raise an error that says what is wrong with the inputs.

    Without a mask, the `padding` token marks padding; None for a model that has none.
    """
    known = {"input_ids", "attention_mask"} | ({"decoder_input_ids"} if encoder_decoder else set())
    caches = [name for name in CACHE_NAMES if name in inputs] if isinstance(inputs, Mapping) else []
    if caches:
        raise InvalidValueError(
            f"a cache cannot be passed: expected prompts, got a {type(inputs[caches[0]]).__name__}. "
            "Pass whole prompts: the search keeps its own cache, one row per request."
        )
    if not isinstance(inputs, Mapping) or "input_ids" not in inputs or set(inputs) - known - unused:
        got = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
        raise InvalidValueError(
            f"inputs are wrong: expected a mapping with input_ids and others of {sorted(known)}, got {got}. "
            "Pass what the tokenizer returns, less the entries that generate does not use."
        )
    inputs = {name: value for name, value in inputs.items() if value is not None or name == "input_ids"}
    input_ids: Any = inputs["input_ids"]
    for name, value in inputs.items():
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        if not isinstance(value, torch.Tensor) or value.ndim != 2 or len(value) != len(input_ids) or not value.numel():
            raise InvalidValueError(
                f"{name} is wrong: expected a tensor of shape (batch, length), got {shape}. "
                "Call the tokenizer with return_tensors='pt' and padding=True."
            )
        if name.endswith("input_ids"):
            if value.dtype not in INTEGERS and not value.is_floating_point():
                raise InvalidTypeError(f"{name} has a wrong dtype: expected integers, got {value.dtype}. Call .long().")
            least, most = (bound.item() for bound in value.aminmax())
            if value.dtype not in INTEGERS or least < 0 or most >= n_tokens:
                raise InvalidValueError(
                    f"{name} are not tokens of the model: expected integers from 0 to {n_tokens - 1}, got "
                    f"{value.dtype} from {least} to {most}. Use the model's own tokenizer."
                )
    attention_mask = _check_mask(inputs.get("attention_mask"), input_ids, padding)
    if not encoder_decoder and not attention_mask[:, -1].all():
        raise InvalidValueError(
            "prompts are padded on the right: expected the last column of attention_mask to be 1, got 0. "
            "Set tokenizer.padding_side = 'left'."
        )
    # Models embed no narrower integers.
    return input_ids if input_ids.dtype in {torch.int32, torch.int64} else input_ids.long(), attention_mask


def padding_token(model: Any) -> int | None:
    """Return the token that `generate` takes for padding where no mask says so; none if it also ends a text."""
    config = getattr(model, "generation_config", None)
    pad, ends = getattr(config, "pad_token_id", None), getattr(config, "eos_token_id", None)
    return None if pad is None or pad in (ends if isinstance(ends, list | tuple) else [ends]) else int(pad)


def _check_mask(mask: torch.Tensor | None, input_ids: torch.Tensor, padding: int | None) -> torch.Tensor:
    """Return a mask of integers or bools that leaves each prompt a token; read off the padding where none is given."""
    if mask is None:
        return torch.ones_like(input_ids) if padding is None else (input_ids != padding).long()
    if mask.shape != input_ids.shape:
        raise InvalidValueError(
            f"attention_mask has a wrong shape: expected {tuple(input_ids.shape)}, got {tuple(mask.shape)}. "
            "Pass the one that came with input_ids."
        )
    if mask.is_complex():
        raise InvalidTypeError(
            f"attention_mask has a wrong dtype: expected integers or bool, got {mask.dtype}. Pass the tokenizer's."
        )
    least, most = (bound.item() for bound in mask.aminmax())
    if mask.is_floating_point() and bool(((mask == 0) | (mask == 1)).all()):
        mask = mask.long()
    if mask.is_floating_point() or least < 0 or most > 1:
        raise InvalidValueError(
            f"attention_mask is wrong: expected 1 for a token and 0 for padding, got {mask.dtype} from {least} to "
            f"{most}. Pass the one that came with input_ids; weights of tokens are not supported."
        )
    if not least and not mask.any(dim=1).all():
        row = int(mask.any(dim=1).logical_not().nonzero()[0])
        raise InvalidValueError(
            f"a prompt is empty: expected a 1 in each row of attention_mask, got none in row {row}. Leave it out."
        )
    return mask


def check_positions(model: Any, attention_mask: torch.Tensor, *, n_new: int) -> None:
    """Raise if a prompt and the `n_new` tokens read after it need more positions than the model has."""
    most = most_positions(model.config.get_text_config())
    if most is None or attention_mask.shape[1] + n_new <= most:
        return
    longest = int(attention_mask.sum(dim=1).max()) + n_new
    if longest > most:
        raise InvalidValueError(
            f"a prompt is longer than the model's positions: expected at most {most - n_new} tokens before the answer, "
            f"got {longest - n_new}. Truncate the prompts."
        )


def start_token(model: Any) -> int:
    """Return the token that an encoder-decoder's answers begin with."""
    for config in (getattr(model, "generation_config", None), model.config):
        for name in ("decoder_start_token_id", "bos_token_id"):
            token = getattr(config, name, None)
            if token is not None:
                return int(token)
    raise InvalidValueError(
        "the decoder has no start token: expected decoder_start_token_id in the model's configuration, got none. "
        "Pass decoder_input_ids in inputs."
    )


def check_flag(value: Any, name: str) -> bool:
    """Return a flag as a bool; 0, 1 and None (False) are accepted, as in a `GenerationConfig`."""
    if value is None or isinstance(value, bool | np.bool_) or (isinstance(value, int) and value in {0, 1}):
        return bool(value)
    # Everything else has a truth value too: "false" is true.
    raise InvalidTypeError(f"{name} has a wrong type: expected True or False, got {value!r}. Pass one of them.")


def batch_of(inputs: Any) -> int:
    """Return the number of rows; 1 for wrong inputs, so that `check_inputs` reports them."""
    input_ids = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
    return max(1, len(input_ids)) if isinstance(input_ids, torch.Tensor) and input_ids.ndim else 1
