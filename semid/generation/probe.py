"""What a model can do, found out by trying it once on tiny prompts and comparing with passes over the whole text."""

import logging
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch

from semid.generation.decoders import EncoderDecoder, RowDecoder, TreeDecoder, WholeText
from semid.generation.forward import Body, Forward, accepted_arguments
from semid.generation.head import Head, LogitsHead, Tokens, find_head
from semid.generation.inputs import check_inputs, check_positions, count_tokens, padding_token, start_token
from semid.generation.interface import (
    GUESSES_ENCODER_PADDING,
    check_known,
    device_of,
    drops_its_cache,
    most_positions,
    note_version,
    reaches,
    reads_masks,
)

__all__ = ["PLAIN", "Abilities", "abilities", "head_of", "open_forward", "state_of"]

log = logging.getLogger("semid")


class Abilities(NamedTuple):
    """Which of the fast ways give what a pass over the whole text gives, for one model.

    Attributes
    ----------
    split : bool
        The decoder and the output layer may be run one after the other, so that `WeightHead` computes only the logits
        that are asked for; otherwise the whole model runs, and its logits are used.
    shared : bool
        Decoder-only: tree attention (`TreeDecoder`); encoder-decoder: one copy of the cross-attention's keys and
        values (`SharedStates`); otherwise each beam has a row of the cache of its own.
    cached : bool
        The model may keep what it has read in a cache; otherwise each step reads the whole text (`WholeText`).
    several : bool
        The decoder may read several tokens of an answer in one pass with a cache (`Forward.levels`); otherwise one at
        a time.
    """

    split: bool
    shared: bool
    cached: bool = True
    several: bool = False


PLAIN = Abilities(split=False, shared=False, cached=False)

# Of each model, by the state that it was in and by how many of its `reaches` a text exceeds.
_known: WeakKeyDictionary[Any, dict[tuple[int, int], Abilities]] = WeakKeyDictionary()
_lock = threading.Lock()
# States of a model that are remembered, such as those of adapters that take turns.
MOST_STATES = 64


def abilities(model: Any, length: int = 0, *, state: int | None = None) -> Abilities:
    """Return what a model can do with texts of a length in tokens.

    It is tried when the model is first met in a state, and again when a text is the first that is longer than one of
    the model's windows.

    Parameters
    ----------
    model : transformers model
    length : int, default=0
        Of the prompt and the answer, padding included.
    state : int, optional
        Of the model now. Default: ``state_of(model)``.
    """
    if model.config.is_encoder_decoder:
        length = 0  # the answers alone grow, by a token per level
    beyond = [reach for reach in reaches(model) if reach < length]
    state = state_of(model) if state is None else state
    key = state, len(beyond)
    with _lock:
        found = _known.setdefault(model, {}).get(key)
    if found is None:
        note_version()
        check_known(model)
        found = examine(model) if not beyond else examine_beyond(model, beyond[-1], abilities(model, state=state))
        with _lock:
            states = _known[model]
            states[key] = found
            while len(states) > MOST_STATES:
                del states[next(iter(states))]
    return found


def state_of(model: Any) -> int:
    """Return a number that changes with a model's modules, their hooks and its settings; its weights do not count.

    What was found out about a model holds for one state: an adapter, a hook, another output layer or another
    attention makes a new one. It takes some 0.1 milliseconds for 400 modules.
    """
    parts: list[Any] = [model.dtype]
    modules = [model]
    while modules:
        module = modules.pop()
        own = vars(module)
        parts += (id(module), type(module))
        if own["_forward_hooks"] or own["_forward_pre_hooks"]:
            parts += (*own["_forward_hooks"], *own["_forward_pre_hooks"])
        if "forward" in own:
            parts.append(id(own["forward"]))
        modules += [child for child in own["_modules"].values() if child is not None]
    for config in {id(one): one for one in (model.config, model.config.get_text_config(decoder=True))}.values():
        for name, value in vars(config).items():
            parts += (name, value if isinstance(value, bool | int | float | str | None) else repr(value))
    head = model.get_output_embeddings() if callable(getattr(model, "get_output_embeddings", None)) else None
    parts += [
        (type(weight), weight.shape) for weight in getattr(head, "_parameters", {}).values() if weight is not None
    ]
    return hash(tuple(parts))


def head_of(model: Any, found: Abilities) -> Head:
    """Return the head that reads what `Forward` returns."""
    head = find_head(model) if found.split else None
    return LogitsHead() if head is None else head


def open_forward(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    n_levels: int,
    found: Abilities | None = None,
    state: int | None = None,
    encoded: torch.Tensor | None = None,
) -> Forward:
    """Check inputs and return the forward passes that a model's abilities allow.

    Parameters
    ----------
    model : transformers model
        Checked before by `check_model`.
    inputs : mapping of str to torch.Tensor of shape (batch, length)
    n_levels : int
        Tokens of an answer.
    found : Abilities, optional
        Default: what `abilities` finds for texts of this length.
    state : int, optional
        As for `abilities`.
    encoded : torch.Tensor of shape (batch, length, dim), optional
        What the encoder of an encoder-decoder wrote for these inputs, if it has run already.
    """
    encoder_decoder = bool(model.config.is_encoder_decoder)
    # Tokenizers add token_type_ids to every text; a model that has no use for them loses nothing.
    typed = isinstance(inputs, Mapping) and "token_type_ids" in inputs
    unused = {"token_type_ids"} - accepted_arguments(model) if typed else set()
    n_tokens = model.get_input_embeddings().weight.shape[0]
    # Where there is no mask, `generate` looks for padding.
    padding = padding_token(model) if not encoder_decoder or GUESSES_ENCODER_PADDING else None
    input_ids, attention_mask = check_inputs(
        inputs, encoder_decoder=encoder_decoder, unused=unused, n_tokens=n_tokens, padding=padding
    )
    check_positions(model, attention_mask, n_new=0 if encoder_decoder else n_levels - 1)
    if found is None:
        length = attention_mask.shape[1]
        found = abilities(model, length + n_levels, state=state)
        if not encoder_decoder and drops_its_cache(model, length, length + n_levels - 1):
            found = PLAIN
    return _open(model, input_ids, attention_mask, found, inputs.get("decoder_input_ids"), encoded)


def _open(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    found: Abilities,
    decoder_input_ids: torch.Tensor | None = None,
    encoded: torch.Tensor | None = None,
) -> Forward:
    device = device_of(model)
    input_ids, attention_mask = input_ids.to(device), attention_mask.to(device)
    encoder_decoder = bool(model.config.is_encoder_decoder)
    if encoder_decoder and decoder_input_ids is None:
        decoder_input_ids = torch.full((len(input_ids), 1), start_token(model), device=device)
    forward: Forward
    if not found.cached:
        forward = WholeText(model, input_ids, attention_mask, decoder_input_ids=decoder_input_ids, encoded=encoded)
    elif decoder_input_ids is not None:
        forward = EncoderDecoder(
            Body(model, split=found.split), input_ids, attention_mask, shared=found.shared,
            decoder_input_ids=decoder_input_ids, encoded=encoded,
        )  # fmt: skip
    else:
        kind = TreeDecoder if found.shared else RowDecoder
        forward = kind(Body(model, split=found.split), input_ids, attention_mask)
    forward.head, forward.several = head_of(model, found), found.several
    return forward


@torch.inference_mode()
def examine(model: Any) -> Abilities:
    """Try the fast ways on two tiny prompts; one is open if its logits agree with those of the whole texts."""
    plain, rows = _walk(model, PLAIN), _walk(model, Abilities(split=False, shared=False))
    if plain is None or not _agree(rows, plain):
        if plain is not None and not plain.isnan().any():
            log.warning(
                "%s cannot be run with its cache: %s. semid reads prompt and answer anew at each step, which is right "
                "but slow.",
                type(model).__name__, "it refuses" if rows is None else "other logits come out than without it",
            )  # fmt: skip
        return PLAIN
    split = find_head(model) is not None and not passes_by_hooks(model)
    split = split and _agree(_walk(model, Abilities(split=True, shared=False)), plain)
    may_share = bool(model.config.is_encoder_decoder) or reads_masks(model)
    shared = may_share and _agree(_walk(model, Abilities(split=split, shared=True)), plain)
    found = Abilities(split=split, shared=shared)
    return found._replace(several=_agree(_walk(model, found._replace(several=True)), plain))


def passes_by_hooks(model: Any) -> bool:
    """Tell whether running the decoder alone would leave out hooks of the modules that hold it."""
    model = getattr(model, "_orig_mod", model)
    decoder, around = getattr(model, "get_decoder", lambda: None)(), [model]
    for name, module in model.named_modules():
        if module is decoder:
            path = name.split(".")[:-1]
            around += [model.get_submodule(".".join(path[: n + 1])) for n in range(len(path))]
            break
    return any(module._forward_hooks or module._forward_pre_hooks for module in around)


@torch.inference_mode()
def examine_beyond(model: Any, reach: int, found: Abilities) -> Abilities:
    """Try what is open to short texts on one that is longer than a window; return what is open to such texts.

    The window may be shorter than it says, since a model is free to count from any token.
    """
    most = most_positions(model.config.get_text_config(decoder=True)) or reach * 2
    length = min(reach + max(16, reach // 4), most - len(ROWS))
    if length <= 0 or not found.cached:
        return found
    n_rows, device = count_tokens(model), device_of(model)
    prompt = 3 + 7 * torch.arange(length, device=device)[None] % max(1, n_rows - 3)
    steps = [(np.array([[0, 0]]), np.array([[3, 4]])), (np.array([[1, 0]]), np.array([[6, 6]]))]
    texts = [torch.cat([prompt, prompt.new_tensor([[first, 6]])], dim=1) % n_rows for first in (4, 3)]
    every = Tokens(torch.arange(n_rows, device=device))
    plain = torch.cat(
        [LogitsHead().logits(WholeText(model, text, torch.ones_like(text)).prompt(), every) for text in texts]
    )
    apart = float((plain[0] - plain[1]).abs().max())
    for able in dict.fromkeys((found, found._replace(shared=False, several=False))):
        forward = _open(model, prompt % n_rows, torch.ones_like(prompt), able)
        forward.prompt()
        features = [forward.step(rows, tokens % n_rows) for rows, tokens in steps][-1]
        if _near(forward.head.logits(features, every), plain, apart):
            return able
    log.warning(
        "%s cannot be run with its cache on texts of more than %s tokens: other logits come out than without it. semid "
        "reads them anew at each step, which is right but slow.", type(model).__name__, reach,
    )  # fmt: skip
    return PLAIN


# Two prompts, one padded, that are followed by three beams and then by four with crossed parents; the beams of the last
# step end in the same token, so that what tells them apart is what they descend from.
INPUT_IDS = ((3, 4, 5, 6), (0, 0, 4, 3))
ROWS = (np.zeros((2, 3), np.int64), np.array([[2, 0, 0, 1], [1, 1, 2, 0]]))
TOKENS = (np.array([[3, 4, 5], [6, 4, 3]]), np.full((2, 4), 6))


def _walk(model: Any, found: Abilities) -> torch.Tensor | None:
    """Return the logits of all steps, shape (rows, vocabulary); None if the model does not take the way at all."""
    n_rows = count_tokens(model)
    input_ids = torch.tensor(INPUT_IDS, device=device_of(model))
    mask = (input_ids > 0).long()
    start = None
    if model.config.is_encoder_decoder:
        start = torch.full((2, 1), 3 % n_rows, device=device_of(model))
    try:
        forward = _open(model, input_ids % n_rows, mask, found, start)
        features = [forward.prompt()]
        if found.several:
            features += forward.levels(list(ROWS), [tokens % n_rows for tokens in TOKENS])
        else:
            features += [forward.step(rows, tokens % n_rows) for rows, tokens in zip(ROWS, TOKENS, strict=True)]
        every = Tokens(torch.arange(n_rows, device=device_of(model)))
        return torch.cat([forward.head.logits(part, every) for part in features])
    except torch.OutOfMemoryError:
        raise
    except Exception:
        # When a fast way fails, another one is left; when the plain way fails, the search itself reports why.
        return None


def _agree(logits: torch.Tensor | None, plain: torch.Tensor) -> bool:
    """Tell whether logits are the plain ones up to rounding: closer than beams that differ only in their ancestors."""
    if logits is None or logits.shape != plain.shape:
        return False
    last = plain.nan_to_num(neginf=0.0, nan=torch.nan)[-8:].view(2, 4, -1)
    apart = min(float((beams[one] - beams[other]).abs().max()) for beams, one, other in
                ((last[0], 0, 1), (last[0], 1, 3), (last[1], 0, 2), (last[1], 2, 3)))  # fmt: skip
    return _near(logits, plain, apart)


def _near(logits: torch.Tensor, plain: torch.Tensor, apart: float) -> bool:
    """Tell whether logits are the plain ones up to rounding, where other beams' are so far `apart`.

    Some models close tokens with a logit of -inf.
    """
    if not torch.equal(logits.isneginf(), plain.isneginf()):
        return False
    logits, plain = logits.nan_to_num(neginf=0.0, nan=torch.nan), plain.nan_to_num(neginf=0.0, nan=torch.nan)
    if not torch.isfinite(plain).all():
        return False
    error = float((logits - plain).abs().max())
    return error <= 1e-4 * float(plain.abs().max()) or error < 0.1 * apart
