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
from semid.generation.interface import GUESSES_ENCODER_PADDING, note_version, reads_masks

__all__ = ["PLAIN", "Abilities", "abilities", "head_of", "open_forward"]

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
    """

    split: bool
    shared: bool
    cached: bool = True


PLAIN = Abilities(split=False, shared=False, cached=False)

_known: WeakKeyDictionary[Any, dict[tuple[torch.dtype, str | None], Abilities]] = WeakKeyDictionary()
_lock = threading.Lock()


def abilities(model: Any) -> Abilities:
    """Return what a model can do; tried when it is first met, and again when its dtype or attention has changed."""
    kind = (model.dtype, getattr(model.config, "_attn_implementation", None))
    with _lock:
        found = _known.setdefault(model, {}).get(kind)
    if found is None:
        note_version()
        found = examine(model)
        with _lock:
            _known[model][kind] = found
    return found


def head_of(model: Any, found: Abilities) -> Head:
    """Return the head that reads what ``open_forward(model, ...)`` returns."""
    head = find_head(model) if found.split else None
    return LogitsHead() if head is None else head


def open_forward(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    n_levels: int,
    found: Abilities | None = None,
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
        Default: ``abilities(model)``.
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
    found = abilities(model) if found is None else found
    return _open(model, input_ids, attention_mask, found, inputs.get("decoder_input_ids"), encoded)


def _open(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    found: Abilities,
    decoder_input_ids: torch.Tensor | None = None,
    encoded: torch.Tensor | None = None,
) -> Forward:
    device = model.device
    input_ids, attention_mask = input_ids.to(device), attention_mask.to(device)
    encoder_decoder = bool(model.config.is_encoder_decoder)
    if encoder_decoder and decoder_input_ids is None:
        decoder_input_ids = torch.full((len(input_ids), 1), start_token(model), device=device)
    if not found.cached:
        return WholeText(model, input_ids, attention_mask, decoder_input_ids=decoder_input_ids, encoded=encoded)
    body = Body(model, split=found.split)
    if decoder_input_ids is not None:
        return EncoderDecoder(
            body, input_ids, attention_mask, shared=found.shared, decoder_input_ids=decoder_input_ids, encoded=encoded
        )
    return (TreeDecoder if found.shared else RowDecoder)(body, input_ids, attention_mask)


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
    split = find_head(model) is not None and _agree(_walk(model, Abilities(split=True, shared=False)), plain)
    may_share = bool(model.config.is_encoder_decoder) or reads_masks(model)
    shared = may_share and _agree(_walk(model, Abilities(split=split, shared=True)), plain)
    return Abilities(split=split, shared=shared)


# Two prompts, one padded, that are followed by three beams and then by four with crossed parents; the beams of the last
# step end in the same token, so that what tells them apart is what they descend from.
INPUT_IDS = ((3, 4, 5, 6), (0, 0, 4, 3))
ROWS = (np.zeros((2, 3), np.int64), np.array([[2, 0, 0, 1], [1, 1, 2, 0]]))
TOKENS = (np.array([[3, 4, 5], [6, 4, 3]]), np.full((2, 4), 6))


def _walk(model: Any, found: Abilities) -> torch.Tensor | None:
    """Return the logits of all steps, shape (rows, vocabulary); None if the model does not take the way at all."""
    n_rows = count_tokens(model)
    input_ids = torch.tensor(INPUT_IDS, device=model.device)
    mask = (input_ids > 0).long()
    start = None
    if model.config.is_encoder_decoder:
        start = torch.full((2, 1), 3 % n_rows, device=model.device)
    try:
        forward = _open(model, input_ids % n_rows, mask, found, start)
        features = [forward.prompt()]
        features += [forward.step(rows, tokens % n_rows) for rows, tokens in zip(ROWS, TOKENS, strict=True)]
        head, every = head_of(model, found), Tokens(torch.arange(n_rows, device=model.device))
        return torch.cat([head.logits(part, every) for part in features])
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError, NotImplementedError):
        # When a fast way fails, another one is left; when the plain way fails, the search itself reports why.
        return None


def _agree(logits: torch.Tensor | None, plain: torch.Tensor) -> bool:
    """Tell whether logits are the plain ones up to rounding: closer than beams that differ only in their ancestors.

    Some models close tokens with a logit of -inf.
    """
    if logits is None or logits.shape != plain.shape or not torch.equal(logits.isneginf(), plain.isneginf()):
        return False
    logits, plain = logits.nan_to_num(neginf=0.0, nan=torch.nan), plain.nan_to_num(neginf=0.0, nan=torch.nan)
    if not torch.isfinite(plain).all():
        return False
    error = float((logits - plain).abs().max())
    last = plain[-8:].view(2, 4, -1)
    apart = min(float((beams[one] - beams[other]).abs().max()) for beams, one, other in
                ((last[0], 0, 1), (last[0], 1, 3), (last[1], 0, 2), (last[1], 2, 3)))  # fmt: skip
    return error <= 1e-4 * float(plain.abs().max()) or error < 0.1 * apart
