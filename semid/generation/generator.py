"""A model made ready for a server loop: what does not depend on the request is prepared once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch

from semid._progress import progress_bar
from semid.generation.batching import as_prompts, batches, bytes_per_token, check_one_each, padded
from semid.generation.beam import prepare, run
from semid.generation.inputs import check_count
from semid.generation.output import BeamOutput
from semid.generation.pairing import check_pair
from semid.generation.sampling import RowSeeds, row_seeds
from semid.generation.settings import check_settings
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["Generator"]


@final
class Generator:
    """`semid.generate` for one model and catalogue, request after request.

    Holds what it has found out about the model and the rows of the output layer that belong to the levels. Threads may
    share it. Make a new one when the model's weights have changed; a new trie of the same shape is given per call.

    Parameters
    ----------
    model : transformers model
    trie : Trie
    vocab : SidVocabulary
    num_beams, normalize, num_return, do_sample, temperature, outside
        As for `generate`.
    memory_mib : int, default=512
        What the caches of one batch of `generate_many` may take.

    Examples
    --------
    >>> import semid
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    >>> model = GPT2LMHeadModel(config).eval()
    >>> trie = semid.Trie.from_codes([[0, 1], [0, 2], [1, 0]])
    >>> vocab = semid.SidVocabulary.from_token_ids([[4, 5], [6, 7, 8]])
    >>> generator = Generator(model, trie=trie, vocab=vocab, num_beams=3)
    >>> generator.generate_many([[1, 2, 3], [2], [3, 1]]).items.shape
    (3, 3)
    """

    def __init__(
        self,
        model: Any,
        *,
        trie: Trie,
        vocab: SidVocabulary,
        num_beams: int,
        normalize: str = "full",
        num_return: int | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        outside: bool = False,
        memory_mib: int = 512,
    ) -> None:
        self.model = model
        self.trie = trie
        self.vocab = vocab
        check_pair(trie, vocab)
        self.settings = check_settings(
            num_beams=num_beams, num_return=num_return, normalize=normalize, do_sample=do_sample,
            temperature=temperature, outside=outside,
        )  # fmt: skip
        self.memory_mib = check_count(
            memory_mib, "memory_mib", remedy="Give the MiB that the caches of a batch may take."
        )
        with torch.inference_mode():
            self._prepared = prepare(model, vocab)

    @torch.inference_mode()
    def generate(
        self,
        inputs: Mapping[str, torch.Tensor],
        *,
        trie: Trie | Sequence[Trie] | None = None,
        exclude: Sequence[Iterable[int] | None] | None = None,
        candidates: Sequence[Iterable[int] | None] | None = None,
        seed: RowSeeds = None,
    ) -> BeamOutput:
        """Return the best items for a batch of prompts; arguments as for `semid.generate`."""
        return run(
            self.model, inputs, self._prepared, self.settings, trie=self.trie if trie is None else trie,
            vocab=self.vocab, exclude=exclude, candidates=candidates, seed=seed,
        )  # fmt: skip

    def generate_many(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        exclude: Sequence[Iterable[int] | None] | None = None,
        candidates: Sequence[Iterable[int] | None] | None = None,
        seed: RowSeeds = None,
    ) -> BeamOutput:
        """Return the best items for any number of prompts of any lengths.

        Prompts of similar length run together, as many at a time as `memory_mib` holds; at a terminal a bar shows how
        far it has come.

        Parameters
        ----------
        prompts : sequence of sequences of int
            Token ids, without padding.
        exclude, candidates : sequence of n_prompts sequences of int, optional
        seed : int or sequence of n_prompts ints, optional
            As for `generate`; which prompts run together does not count.

        Returns
        -------
        BeamOutput
            Its rows in the order of `prompts`.

        Raises
        ------
        InvalidValueError, InvalidTypeError
            If a prompt is empty or no sequence of token ids, or an argument does not have an entry for each.
        """
        arrays = as_prompts(prompts)
        lengths = [len(prompt) for prompt in arrays]
        for name, value in (("exclude", exclude), ("candidates", candidates)):
            check_one_each(value, name, len(lengths))
        settings = self.settings
        seeds = row_seeds(seed, len(lengths)) if settings.do_sample else None
        out = BeamOutput.empty(len(lengths), settings.num_return, self.trie.n_levels, outside=settings.outside)
        most = self.memory_mib * 2**20 // bytes_per_token(self.model)
        with progress_bar("searching", total=len(lengths), unit="prompts") as bar:
            for rows in batches(lengths, extra=settings.num_beams * self.trie.n_levels, most_tokens=most):
                inputs = padded([arrays[row] for row in rows], self.model)
                found = self.generate(
                    inputs,
                    exclude=None if exclude is None else [exclude[row] for row in rows],
                    candidates=None if candidates is None else [candidates[row] for row in rows],
                    seed=None if seeds is None else [seeds[row] for row in rows],
                )
                out.put(np.asarray(rows), found)
                bar.update(len(rows))
        return out
