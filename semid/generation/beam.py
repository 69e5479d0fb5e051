"""Beam search over the trie: the prompt once per request, then only beams that lead to items."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, overload
from weakref import WeakKeyDictionary

import torch

from semid._arrays import IntArray
from semid.generation.head import Tokens
from semid.generation.inputs import batch_of, check_flag, check_model
from semid.generation.probe import abilities, open_forward, state_of
from semid.generation.requests import Settings, check_settings, check_tries, check_vocab, route, warn_of_end
from semid.generation.sampling import RowSeeds, row_keys, row_seeds
from semid.generation.search import BeamOutput, search
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["generate", "last_token", "prepare", "run"]


@overload
def generate(
    model: Any, inputs: Mapping[str, torch.Tensor], *, return_dict: Literal[True] = True, **options: Any
) -> BeamOutput: ...


@overload
def generate(
    model: Any, inputs: Mapping[str, torch.Tensor], *, return_dict: Literal[False], **options: Any
) -> IntArray: ...


@torch.inference_mode()  # type: ignore[misc]  # the options of the overloads are the arguments below
def generate(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    trie: Trie | Sequence[Trie],
    vocab: SidVocabulary | Sequence[SidVocabulary],
    num_beams: int,
    normalize: str = "full",
    exclude: Sequence[Iterable[int] | None] | None = None,
    candidates: Sequence[Iterable[int] | None] | None = None,
    num_return: int | None = None,
    do_sample: bool = False,
    temperature: float = 1.0,
    seed: RowSeeds = None,
    outside: bool = False,
    return_dict: bool = True,
) -> BeamOutput | IntArray:
    """Return the best items for each prompt, or a sample of items without repetition.

    The same items in the same order as ``model.generate`` with `num_beams` beams, a `SidLogitsProcessor` and
    ``max_new_tokens=n_levels`` returns, less its repetitions; the prompt is read once per request instead of once per
    beam, and no beam is spent on anything but items. Other settings of the model's ``generation_config``, such as
    penalties, are not applied.

    Parameters
    ----------
    model : transformers model
        Decoder-only or encoder-decoder, in evaluation mode; it is not changed. When a model is first met, a few tokens
        tell which of the faster ways it can go: each is compared with a pass over the whole text. A model that none of
        them suits reads the whole text at each step, with the same result; the log says so.
    inputs : mapping of str to torch.Tensor of shape (batch, length)
        ``input_ids`` and ``attention_mask``, as a tokenizer returns them; padded on the left for a decoder-only model.
        Without a mask, pad tokens in the prompts of a decoder-only model are padding, as in ``model.generate``. Those
        in the prompts of an encoder-decoder are padding before transformers 5.2 alone, as there. An encoder-decoder may
        have ``decoder_input_ids``, if the answer begins with more than the start token; all of its rows have one
        length, and its first column is the start token.
    trie : Trie or sequence of batch tries
        One for all rows, or one per row, such as search and recommendation requests in one batch; of one depth.
    vocab : SidVocabulary or sequence of batch vocabularies
    num_beams : int
        May exceed the number of items.
    normalize : {"full", "window", "allowed"}, default="full"
        Which probabilities a score sums up: over the whole vocabulary of the model, as Hugging Face does; over the
        codes of the level, for which the rest of the output layer is not computed; or over the codes that lead to items
        which the request may return, which favours IDs whose prefixes few items share.
    exclude : sequence of batch sequences of int, optional
        Ranks that each request must not return, such as the items that a user has seen. None and entries of -1 exclude
        nothing, so that the ``items`` of an earlier output may be passed to get the next best.
    candidates : sequence of batch sequences of int, optional
        Ranks that each request may return; None for all items. Entries of -1 are padding.
    num_return : int, optional
        Items per request, at most `num_beams`; default: `num_beams`.
    do_sample : bool, default=False
        Draw `num_beams` items without replacement instead of looking for the best; see Notes.
    temperature : float, default=1.0
        Divides the logits, whether items are drawn or not: above 1 the model is less sure, below 1 surer. 1e-30 or
        more, so that they stay numbers of float32.
    seed : int or sequence of batch ints, optional
        For ``do_sample=True``. One for all: each row gets noise of its own, by its place in the batch. One per row:
        what a row draws does not depend on the rows beside it. Default: from torch's generator, so that
        `torch.manual_seed` and `transformers.set_seed` count.
    outside : bool, default=False
        Report in ``out.outside`` how much probability lies outside the codes of the levels. It says when
        ``normalize="window"`` is safe, and costs what ``normalize="full"`` costs.
    return_dict : bool, default=True
        False returns the ranks alone, as ``model.generate`` returns sequences alone.

    Returns
    -------
    BeamOutput, or ndarray of shape (batch, num_return), dtype int64
        ``items, codes, scores, n_valid, outside``, best first, or in the order drawn; ``items`` alone with
        ``return_dict=False``.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If an argument is wrong, the model is in training mode, the vocabulary does not fit it, a
        prompt is too long for it, or its logits are not numbers.

    Warns
    -----
    UserWarning
        Once, if ``model.generation_config.eos_token_id`` is the token of a code before the last level: this search
        finds all items, ``model.generate`` would end rows there.

    Notes
    -----
    With ``do_sample=True`` an item is drawn with the probability with which ``model.generate(do_sample=True, top_k=0)``
    writes it under a `SidLogitsProcessor`: the product over the levels of the softmax over the codes that lead to items
    which the request may return. The next one is drawn from what is left in proportion to the same probabilities, and
    so on: sampling without replacement, in one beam search (Kool et al., arXiv:1903.06059). The first n of an output
    are the sample of size n, with the same seed too. `normalize` does not change what is drawn but what
    ``out.scores`` reports: with "allowed" the logarithm of the probability above, with "full" and "window" what a beam
    search at this temperature reports for the item.
    """
    settings = check_settings(
        num_beams=num_beams, num_return=num_return, normalize=normalize, do_sample=do_sample, temperature=temperature,
        outside=outside,
    )  # fmt: skip
    return_dict = check_flag(return_dict, "return_dict")
    out = run(
        model, inputs, prepare(model, vocab), settings, trie=trie, vocab=vocab, exclude=exclude, candidates=candidates,
        seed=seed,
    )  # fmt: skip
    return out if return_dict else out.items


class Prepared(NamedTuple):
    """What a search needs of a model and its vocabularies, whatever the prompts are.

    Attributes
    ----------
    state : int
        The state of the model, as `state_of` tells it.
    tokens : dict of int to list of Tokens
        The tokens of each level, by the `id` of the vocabulary.
    """

    state: int
    tokens: dict[int, list[Tokens]]


def prepare(model: Any, vocab: SidVocabulary | Sequence[SidVocabulary]) -> Prepared:
    """Check that a model has the tokens of vocabularies, find out what it can do, and lay out its output layer."""
    vocabs: Sequence[Any] = vocab if isinstance(vocab, list | tuple) and vocab else [vocab]
    tokens = {}
    for at, one in {id(one): one for one in vocabs}.items():
        check_vocab(one)
        tokens[at] = [level.without_rows() for level in _tokens_of(one)]
    check_model(model, last_token=max(level.last for levels in tokens.values() for level in levels))
    for one in vocabs:
        warn_of_end(model, one)
    state = state_of(model)
    abilities(model, state=state)
    return Prepared(state, tokens)


# By vocabulary, with the arrays that they are of: `SidVocabulary.extend` may put others in their place.
_laid_out: WeakKeyDictionary[SidVocabulary, tuple[tuple[IntArray, ...], list[Tokens]]] = WeakKeyDictionary()


def _tokens_of(vocab: SidVocabulary) -> list[Tokens]:
    """Return the tokens of each level of a vocabulary, laid out when it is first met."""
    arrays, tokens = _laid_out.get(vocab, ((), []))
    if arrays is not vocab.level_tokens:
        arrays = vocab.level_tokens
        tokens = [Tokens(torch.from_numpy(level.copy())) for level in arrays]
        _laid_out[vocab] = arrays, tokens
    return tokens


def run(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    prepared: Prepared,
    settings: Settings,
    *,
    trie: Trie | Sequence[Trie],
    vocab: SidVocabulary | Sequence[SidVocabulary],
    exclude: Sequence[Iterable[int] | None] | None = None,
    candidates: Sequence[Iterable[int] | None] | None = None,
    seed: RowSeeds = None,
    encoded: torch.Tensor | None = None,
) -> BeamOutput:
    """Check what belongs to the requests of a call of `generate` and run its search.

    `encoded` is what the encoder wrote already.
    """
    batch = batch_of(inputs)
    tries, vocabs = check_tries(trie, vocab, batch)
    n_levels = tries[0].n_levels
    parts = route(tries, vocabs, candidates=candidates, exclude=exclude)
    keys = row_keys(row_seeds(seed, batch), n_levels) if settings.do_sample else None
    forward = open_forward(model, inputs, n_levels=n_levels, state=prepared.state, encoded=encoded)
    head = forward.head.tempered(settings.temperature)
    return search(forward, head, parts, prepared.tokens, settings, n_levels=n_levels, keys=keys)


def last_token(vocabs: Sequence[SidVocabulary]) -> int:
    """Return the largest token id of some vocabularies."""
    return max(int(level.max()) for vocab in {id(v): v for v in vocabs}.values() for level in vocab.level_tokens)
