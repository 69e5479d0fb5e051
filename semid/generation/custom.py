"""The beam search behind the usual call: ``model.generate(..., custom_generate=beam_search(...))``."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from transformers.generation.utils import GenerateBeamDecoderOnlyOutput, GenerateBeamEncoderDecoderOutput

from semid.errors import InvalidValueError
from semid.generation.beam import prepare, run
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
        repeated = max(generation_config.num_beams or 1, generation_config.num_return_sequences or 1)
        if repeated > 1:
            raise InvalidValueError(
                f"the prompts have been repeated: expected num_beams and num_return_sequences of 1, got {repeated}. "
                "Give the number of beams to beam_search alone."
            )
        if len(logits_processor):
            names = [type(processor).__name__ for processor in logits_processor]
            raise InvalidValueError(
                f"logits processors are not applied by this search: expected none, got {names}. "
                "Give do_sample and temperature to beam_search, or use a SidLogitsProcessor without custom_generate."
            )
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
