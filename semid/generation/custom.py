"""The beam search behind the usual call: ``model.generate(..., custom_generate=beam_search(...))``."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers import generation as lazy_generation

from semid.errors import InvalidValueError
from semid.generation.beam import prepare, run
from semid.generation.interface import CACHE_NAMES, OWN_CACHES, most_positions
from semid.generation.requests import check_settings
from semid.generation.sampling import RowSeeds
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["beam_search"]

# Modules below it take a second to import, and are imported at the first use of their names.
generation: Any = lazy_generation


def beam_search(
    *,
    trie: Trie | Sequence[Trie],
    vocab: SidVocabulary | Sequence[SidVocabulary],
    exclude: Sequence[Iterable[int] | None] | None = None,
    candidates: Sequence[Iterable[int] | None] | None = None,
    seed: RowSeeds = None,
    **options: Any,
) -> Callable[..., Any]:
    """Return `semid.generate` in the form that ``model.generate`` takes as `custom_generate`.

    Leave `num_beams` and `num_return_sequences` of ``model.generate`` at 1: it repeats the prompts before it calls a
    custom search.

    Parameters
    ----------
    trie, vocab, exclude, candidates, seed, **options
        As for `semid.generate`; the options are `num_beams`, `num_return`, `normalize`, `do_sample` and `temperature`.

    Returns
    -------
    search : callable
        To be passed as ``custom_generate``. ``model.generate`` then returns `num_return` sequences per request, best
        first, the prompt included; slots without an item hold the pad token. With ``return_dict_in_generate=True`` also
        ``sequences_scores``, summed log-probabilities. `read_beams` reads both.

    Raises
    ------
    InvalidValueError
        Raised by ``model.generate`` for an argument that would change the result but that this search does not apply:
        beams and returned sequences, logits processors and what makes them, such as penalties or a temperature,
        ``do_sample=True`` that `beam_search` was not told, stopping criteria, ``max_time`` or ``stop_strings``, a
        ``max_new_tokens`` or ``max_length`` that an ID does not fit into, a cache or a ``cache_implementation`` of
        another kind, or inputs besides ``input_ids``, ``attention_mask`` and ``decoder_input_ids``. Also what
        `semid.generate` raises.

    Notes
    -----
    Arguments of ``model.generate`` that cannot change the result are ignored: a larger ``max_new_tokens``, since
    every answer has a token per level; ``eos_token_id``; ``length_penalty`` and ``early_stopping``, since all IDs are
    of one length, so that ``sequences_scores`` are sums whatever they say; ``use_cache``; ``prompt_lookup_num_tokens``.
    ``output_scores``, ``output_logits``, ``output_attentions`` and ``output_hidden_states`` return nothing.
    ``model.generate`` hands ``assistant_model`` and ``streamer`` to no custom search, so they have no effect;
    ``position_ids`` are made from the mask.

    Examples
    --------
    >>> import torch, semid
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    >>> model = GPT2LMHeadModel(config).eval()
    >>> trie = semid.Trie.from_codes([[0, 1], [0, 2], [1, 0]])
    >>> vocab = semid.SidVocabulary.from_token_ids([[4, 5], [6, 7, 8]])
    >>> search = beam_search(trie=trie, vocab=vocab, num_beams=3)
    >>> model.generate(torch.tensor([[1, 2]]), custom_generate=search, max_new_tokens=2, pad_token_id=0).shape
    torch.Size([3, 4])
    """
    settings = check_settings(**options)

    def search(
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **model_kwargs: Any,
    ) -> Any:
        first: Any = trie[0] if isinstance(trie, list | tuple) and trie else trie
        check_call(
            model, input_ids, logits_processor, stopping_criteria, generation_config, model_kwargs,
            n_levels=getattr(first, "n_levels", 0), do_sample=settings.do_sample,
        )  # fmt: skip
        inputs = {"input_ids": input_ids}
        mask, encoded = model_kwargs.get("attention_mask"), None
        if model.config.is_encoder_decoder:
            encoded = model_kwargs["encoder_outputs"][0]
            read = torch.zeros(encoded.shape[:2], dtype=torch.long)  # by the encoder: it matters no more
            inputs = {"input_ids": read, "decoder_input_ids": input_ids}
        if mask is not None:
            inputs["attention_mask"] = mask
        out = run(
            model, inputs, prepare(model, vocab), settings, trie=trie, vocab=vocab, exclude=exclude,
            candidates=candidates, seed=seed, encoded=encoded,
        )  # fmt: skip
        pad = generation_config.pad_token_id
        batch, n_return, n_levels = out.codes.shape
        generated = torch.full((batch, n_return, n_levels), 0 if pad is None else pad)
        vocabs = [vocab] * batch if isinstance(vocab, SidVocabulary) else vocab
        for row, n_valid in enumerate(out.n_valid.tolist()):
            generated[row, :n_valid] = torch.from_numpy(vocabs[row].to_tokens(out.codes[row, :n_valid]))
        start = input_ids.repeat_interleave(n_return, dim=0)
        sequences = torch.cat([start, generated.flatten(0, 1).to(start)], dim=1)
        if not generation_config.return_dict_in_generate:
            return sequences
        kind: Any = generation.GenerateBeamDecoderOnlyOutput
        if model.config.is_encoder_decoder:
            kind = generation.GenerateBeamEncoderDecoderOutput
        return kind(sequences=sequences, sequences_scores=torch.from_numpy(out.scores).flatten().to(sequences.device))

    return search


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
    """Raise if ``model.generate`` was given a setting that would change the result and is not applied here.

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
    known = generation.MaxLengthCriteria, generation.EosTokenCriteria
    others = [one for one in stopping_criteria if not isinstance(one, known)]
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
    limits = [one.max_length for one in stopping_criteria if isinstance(one, generation.MaxLengthCriteria)]
    most = min(limits, default=length + n_levels)
    # Where nobody has set a limit, generate takes that of the model's positions; the last token of an ID needs none.
    chosen = generation_config.max_new_tokens is not None or most != _n_positions(model)
    if chosen and most < length + n_levels:
        raise InvalidValueError(
            f"an ID does not fit: expected max_new_tokens of {n_levels} or more, or a max_length of "
            f"{length + n_levels} or more, got room for {most - length}. Pass max_new_tokens={n_levels}."
        )


def _n_positions(model: Any) -> int | None:
    return most_positions(model.config)


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
