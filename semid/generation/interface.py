"""What this package calls by a name that transformers has changed or may change: each name once, with its versions.

======  ================================================================================================
since   what is different
======  ================================================================================================
5.2     without a mask, ``generate`` reads all of an encoder-decoder's prompt; before, it looked for pad tokens
5.10    ``cache_implementation`` may be "dynamic_full", which ``generate`` sets for assisted decoding
5.20    a cache that the caller passed is marked: ``cache._is_user_defined``
5.24    the cache is called ``cache``, as argument and in outputs; before, ``past_key_values``
5.24    a prefix function is told the request of a sample; before, each sample without beams was a request of its own
======  ================================================================================================

A name that is missing is never skipped over: `probe` compares every way to run a model with a pass over the whole text
that uses none of them, so that a change that nobody has seen yet ends in that slower pass, or in an error.
"""

import functools
import inspect
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from typing import Any

import torch
import transformers
from packaging.version import Version
from transformers import cache_utils

from semid.errors import InvalidValueError

__all__ = [
    "CACHE_NAMES",
    "GUESSES_ENCODER_PADDING",
    "OWN_CACHES",
    "TESTED",
    "cache_name",
    "cache_of",
    "check_known",
    "device_of",
    "drops_its_cache",
    "forward_arguments",
    "most_positions",
    "note_version",
    "plain_cache",
    "reaches",
    "reads_masks",
    "windows",
]

log = logging.getLogger("semid")

# The newest version that the tests have run on; CONTRIBUTING says how it is raised.
TESTED = "5.24.0"
INSTALLED = Version(transformers.__version__)

# Newest name first. `cache_params` is that of models with recurrent states, `Cache` or not.
CACHE_NAMES = ("cache", "past_key_values", "cache_params")
# What ``generate`` may be told about the cache that it makes itself, where that is an ordinary growing one.
OWN_CACHES = frozenset({None, "dynamic", "dynamic_full"})
# Whether ``generate`` reads the mask of an encoder-decoder's prompts off the pad token where none is given.
GUESSES_ENCODER_PADDING = Version("5.2") > INSTALLED

# Layers whose state is keys and values alone, one column for each token. The exact types: subclasses keep more.
PLAIN_LAYERS = frozenset(
    getattr(cache_utils, name) for name in ("DynamicLayer", "DynamicSlidingWindowLayer") if hasattr(cache_utils, name)
)


@functools.cache
def note_version() -> None:
    """Log, once, that transformers is newer than what has been tested."""
    if Version(TESTED) < INSTALLED:
        log.warning(
            "transformers %s is newer than %s, the newest version that this semid was tested with. Models are compared "
            "with a plain pass when they are first met, so results stay right; some may run slower.",
            INSTALLED, TESTED,
        )  # fmt: skip


def forward_arguments(model: Any) -> frozenset[str]:
    """Return the names that a model's forward pass takes; those of the model that a wrapper holds."""
    # torch.compile and PEFT wrap the model whose signature counts.
    inner = getattr(model, "_orig_mod", model)
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return _names(getattr(inner.forward, "__func__", inner.forward))


@functools.lru_cache(maxsize=64)  # reading a signature takes 0.2 milliseconds, at each search
def _names(forward: Any) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters) - {"self"}


def cache_name(arguments: Collection[str], model: Any) -> str:
    """Return the name under which a forward pass with these arguments takes its cache.

    Raises
    ------
    InvalidValueError
        If it takes none: left out, each step would forget what was read before.
    """
    for name in CACHE_NAMES:
        if name in arguments:
            return name
    raise InvalidValueError(
        f"{type(model).__name__} takes no cache: expected an argument named one of {CACHE_NAMES}, got "
        f"{sorted(arguments)}. Use model.generate with a SidLogitsProcessor."
    )


def cache_of(model: Any, output: Any) -> Any:
    """Return the cache of a forward pass; an error if it cannot follow the beams."""
    caches = (getattr(output, name, None) for name in CACHE_NAMES)
    cache = next((cache for cache in caches if cache is not None), None)
    if not hasattr(cache, "reorder_cache"):
        raise InvalidValueError(
            f"{type(model).__name__} keeps no cache that beams can share: expected one of {CACHE_NAMES} with "
            f"reorder_cache, got {type(cache).__name__}. Use model.generate with a SidLogitsProcessor."
        )
    return cache


def plain_cache(config: Any = None) -> Any:
    """Return an empty cache that grows; with a configuration, one whose layers are those that the model asks for."""
    return cache_utils.DynamicCache() if config is None else cache_utils.DynamicCache(config=config)


def reads_masks(model: Any) -> bool:
    """Tell whether all layers of a model attend through a mask that the caller may give."""
    config = model.config.get_text_config(decoder=True)
    if getattr(config, "_attn_implementation", None) not in {"sdpa", "eager"}:
        return False  # flash attention takes no mask of four dimensions
    if not set(getattr(config, "layer_types", None) or ()) <= KNOWN_LAYERS:
        return False
    # Settings such as GPT-Neo's `window_size`: these layers count what is near by the columns of their input, where
    # beams that stand side by side would push the prompt away.
    if any(name not in MASKED for name, _ in limits(config)):
        return False
    return all(type(layer) in PLAIN_LAYERS for layer in plain_cache(config).layers)


# Layers whose reach is all that a caller's mask leaves open.
KNOWN_LAYERS = frozenset({"full_attention", "sliding_attention"})
# Settings that are lengths at which a model begins to treat tokens differently: windows, chunks, temperatures and
# position scales. The last three names are numbers of something else.
LENGTHS = re.compile(r"window|chunk|local|block_size|radius|span|floor|original_max_position")
COUNTS = frozenset({"chunk_size_feed_forward", "max_window_layers", "num_local_experts"})
# Those that the mask of `TreeDecoder` closes, by the windows of the cache's layers.
# The positions that a model was first trained on are a matter of the positions that a caller gives.
MASKED = frozenset({"sliding_window", "sliding_window_pattern", "original_max_position_embeddings"})


def limits(config: Any) -> Iterator[tuple[str, int]]:
    """Yield the settings that name a length in tokens, with their values."""
    for name, value in vars(config).items():
        # Rotary positions have a dictionary of settings, or one for each type of layer.
        nested = (
            [value, *(one for one in value.values() if isinstance(one, Mapping))] if isinstance(value, dict) else []
        )
        settings = [(name, value), *(pair for one in nested for pair in one.items())]
        for key, length in settings:
            known = isinstance(key, str) and isinstance(length, int) and not isinstance(length, bool) and length > 0
            if known and key not in COUNTS and LENGTHS.search(key):
                yield key.lstrip("_"), length


def most_positions(config: Any) -> int | None:
    """Return how many positions a model has; None for one without a limit, which some write as -1."""
    most = getattr(config, "max_position_embeddings", None)
    return most if isinstance(most, int) and most > 0 else None


def reaches(model: Any) -> list[int]:
    """Return the lengths, ascending, beyond which a model may treat a text differently: its windows and chunks."""
    config = model.config.get_text_config(decoder=True)
    most = most_positions(config) or float("inf")
    return sorted({length for _, length in limits(config) if 1 < length < most})


def drops_its_cache(model: Any, first: int, last: int) -> bool:
    """Tell whether ``model.generate`` throws a cache away while a text grows from `first` to `last` tokens.

    Models with "longrope" positions take other frequencies for texts that are longer than those of their first
    training, and read the whole text again where it outgrows them.
    """
    config = model.config.get_text_config(decoder=True)
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if scaling.get("rope_type") != "longrope":
        return False
    least = getattr(config, "original_max_position_embeddings", None) or scaling.get("original_max_position_embeddings")
    return least is not None and first <= least < last


def device_of(model: Any) -> torch.device:
    """Return the device that a model computes on.

    Of a model that accelerate offloads, the weights are on "meta" between passes; its hook knows where they go.
    """
    device: torch.device = model.device
    if device.type != "meta":
        return device
    computes_on = getattr(getattr(model, "_hf_hook", None), "execution_device", None)
    return torch.device("cpu" if computes_on is None else computes_on)


def check_known(model: Any) -> None:
    """Raise if a model carries something from token to token that neither a cache nor the text holds.

    XLNet keeps memories of its own making: what it writes with them differs from what it reads in the whole text.

    PEFT may put virtual tokens before the prompt. An older one hands them on under a name that this transformers has
    changed: ``model.generate`` then leaves them out at the later tokens, though a forward pass reads them.
    """
    if getattr(model.config, "use_mems_eval", False):
        raise InvalidValueError(
            f"{type(model).__name__} keeps memories (mems) that a beam search cannot follow: expected a model with a "
            "cache, or without memories. Use another model."
        )
    settings: Any = getattr(model, "active_peft_config", None)
    if not getattr(settings, "is_prompt_learning", False):
        return
    from transformers.integrations import peft

    least, installed = getattr(peft, "MIN_PEFT_VERSION", "0"), metadata.version("peft")
    if Version(installed) < Version(least):
        raise InvalidValueError(
            f"{type(model).__name__} has virtual tokens ({settings.peft_type}) that this transformers loses: expected "
            f"peft {least} or newer beside transformers {INSTALLED}, got peft {installed}. Upgrade peft."
        )


def windows(config: Any) -> dict[str, int | None]:
    """Return how far the layers of each type look back; None for no limit."""
    reach = [getattr(layer, "sliding_window", None) for layer in plain_cache(config).layers] or [None]
    types = getattr(config, "layer_types", None) or ["all"] * len(reach)
    return dict(zip(types, reach, strict=True)) if len(set(types)) > 1 else {"all": reach[0]}
