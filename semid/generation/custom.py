"""The beam search behind the usual call: ``model.generate(..., custom_generate=beam_search(...))``."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from transformers.generation.utils import GenerateBeamDecoderOnlyOutput, GenerateBeamEncoderDecoderOutput

from semid.generation.beam import prepare, run
from semid.generation.custom_checks import check_call
from semid.generation.sampling import RowSeeds
from semid.generation.settings import check_settings
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["beam_search"]


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
    search of one's own.

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
        By ``model.generate``, if it was told what would change the result and is not applied here: beams and returned
        sequences, logits processors and what makes them, such as penalties or a temperature, ``do_sample=True`` that
        `beam_search` was not told, stopping criteria, ``max_time`` or ``stop_strings``, a ``max_new_tokens`` or
        ``max_length`` that an ID does not fit into, a cache or a ``cache_implementation`` of another kind, or inputs
        besides ``input_ids``, ``attention_mask`` and ``decoder_input_ids``. Also what `semid.generate` raises.

    Notes
    -----
    What ``model.generate`` takes besides and leaves the result as it is, is ignored: a larger ``max_new_tokens``, since
    every answer has a token per level; ``eos_token_id``; ``length_penalty`` and ``early_stopping``, since all IDs are
    of one length, so that ``sequences_scores`` are sums whatever they say; ``use_cache``; ``prompt_lookup_num_tokens``.
    ``output_scores``, ``output_logits``, ``output_attentions`` and ``output_hidden_states`` return nothing.
    ``assistant_model`` and ``streamer`` are not handed on to any search of one's own, so that they are ignored unseen;
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
        kind: Any = GenerateBeamDecoderOnlyOutput
        if model.config.is_encoder_decoder:
            kind = GenerateBeamEncoderDecoderOutput
        return kind(sequences=sequences, sequences_scores=torch.from_numpy(out.scores).flatten().to(sequences.device))

    return search
