"""A model made ready for a server loop: what does not depend on the request is prepared once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch

from semid._arrays import IntArray
from semid._checks import check_count
from semid._progress import progress_bar
from semid.errors import InvalidTypeError, InvalidValueError
from semid.generation.beam import prepare, run
from semid.generation.probe import state_of
from semid.generation.requests import check_pair, check_settings
from semid.generation.sampling import RowSeeds, row_seeds
from semid.generation.search import BeamOutput
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["Generator", "batches", "bytes_per_token", "padded"]


@final
class Generator:
    """`semid.generate` for one model and catalogue, request after request.

    Holds what it has found out about the model and the rows of the output layer that belong to the levels. Threads may
    share it. Hooks, adapters and another output layer are noticed at the next call; make a new generator when the
    values of the model's weights have changed. A new trie of the same shape is given per call.

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
        if state_of(self.model) != self._prepared.state:
            self._prepared = prepare(self.model, self.vocab)
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


def as_prompts(prompts: Any) -> list[IntArray]:
    """Return the token ids of each prompt, or raise an error that names the wrong prompt."""
    if not isinstance(prompts, Iterable) or isinstance(prompts, Mapping | str) or getattr(prompts, "ndim", 1) == 0:
        raise InvalidTypeError(
            f"prompts have a wrong type: expected sequences of token ids, got {type(prompts).__name__}. "
            "Pass what the tokenizer returns as input_ids, without padding."
        )
    arrays = [_as_prompt(prompt, row) for row, prompt in enumerate(prompts)]
    lengths = [len(array) for array in arrays]
    if min(lengths, default=0) == 0:
        raise InvalidValueError(
            f"prompts are wrong: expected at least one prompt and none empty, got {len(lengths)}, the shortest of "
            f"{min(lengths, default=0)} tokens. Leave empty ones out."
        )
    return arrays


def _as_prompt(prompt: Any, row: int) -> IntArray:
    try:
        array = np.asarray(prompt.detach().cpu() if isinstance(prompt, torch.Tensor) else prompt)
        got = f"{array.dtype} of shape {array.shape}"
    except (ValueError, TypeError):  # lists of different lengths within a list
        array, got = np.asarray(None), type(prompt).__name__
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise InvalidTypeError(
            f"prompt {row} is wrong: expected a sequence of token ids, got {got}. "
            "Pass what the tokenizer returns as input_ids, without padding."
        )
    return array.astype(np.int64)


def check_one_each(value: Any, name: str, n_prompts: int) -> None:
    """Raise unless an argument of `generate_many` is None or has an entry for each prompt."""
    if value is None:
        return
    if not isinstance(value, Sequence | np.ndarray | torch.Tensor) or getattr(value, "ndim", 1) == 0:
        raise InvalidTypeError(
            f"{name} has a wrong type: expected a sequence of {n_prompts}, got {type(value).__name__}. "
            "Give one per prompt."
        )
    if len(value) != n_prompts:
        raise InvalidValueError(
            f"{name} has a wrong length: expected {n_prompts}, got {len(value)}. Give one per prompt."
        )


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
