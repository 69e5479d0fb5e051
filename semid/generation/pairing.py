"""Do a trie, a vocabulary and a model belong together? The checks that every way to generate makes first."""

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["check_pair", "check_vocab", "warn_of_end"]


def check_pair(trie: Trie, vocab: SidVocabulary) -> None:
    """Raise unless every code of the trie has a token in the vocabulary, and both are of one catalogue.

    Those that do not say which catalogue they are of are of any: a trie from `Trie.from_codes`, a vocabulary that was
    never tied to one.

    Parameters
    ----------
    trie : Trie
    vocab : SidVocabulary
        That knows its token ids.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If one of them is something else, their shapes differ, or their marks do: catalogue, view or generation.
    """
    if not isinstance(trie, Trie):
        raise InvalidTypeError(
            f"trie has a wrong type: expected one semid.Trie, got {type(trie).__name__}. Build it with Trie.from_codes."
        )
    check_vocab(vocab)
    sizes = vocab.codebook_sizes
    if trie.n_levels != vocab.n_levels or any(a > b for a, b in zip(trie.codebook_sizes, sizes, strict=True)):
        raise InvalidValueError(
            f"trie and vocabulary have different shapes: expected codebooks of at most {sizes} codes, got "
            f"{trie.codebook_sizes}. Make both from the same codes."
        )
    if trie.fingerprint is not None and vocab.catalogue is not None and trie.fingerprint != vocab.catalogue:
        raise InvalidValueError(
            f"trie and vocabulary are of different catalogues: expected a trie of {_mark(vocab.catalogue)}, generation "
            f"{vocab.generation}, got one of {_mark(trie.fingerprint)}, generation {trie.generation}. Take sids.trie() "
            "of the generation that the vocabulary is tied to; or, where sids.check_pair(model=model) accepts the "
            "model, tie the vocabulary to the new one: vocab.tied_to(sids)."
        )


def check_vocab(vocab: SidVocabulary) -> None:
    """Raise unless `vocab` is a vocabulary that knows its token ids."""
    if not isinstance(vocab, SidVocabulary):
        raise InvalidTypeError(
            f"vocab has a wrong type: expected a semid.SidVocabulary, got {type(vocab).__name__}. Make one first."
        )
    _ = vocab.level_tokens  # raises when it has not been extended


# By vocabulary, the tokens and the end that were compared last, so that a search compares what it has not met alone.
_compared: WeakKeyDictionary[SidVocabulary, tuple[Any, Any]] = WeakKeyDictionary()


def warn_of_end(model: Any, vocab: SidVocabulary) -> None:
    """Warn, once, if a token that ends the rows of ``model.generate`` is that of a code before the last level.

    A search of our own ends where the levels do, and so it is right all the same; ``model.generate`` takes a beam with
    this token out of the search before its ID is complete, whatever a logits processor says.
    """
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if ends is None or len(vocab.level_tokens) == 1:
        return
    # Copied, since a list may be changed in place.
    ends = (ends,) if isinstance(ends, int) else tuple(np.atleast_1d(np.asarray(ends)).tolist())
    tokens, compared = _compared.get(vocab, (None, None))
    if tokens is vocab.level_tokens and compared == ends:
        return
    _compared[vocab] = vocab.level_tokens, ends
    for level, own in enumerate(vocab.level_tokens[:-1]):
        found = np.intersect1d(ends, own).tolist()
        if found:
            warnings.warn(
                f"an end token of the model is the token of a code: expected none of level {level}, got {found}. This "
                "search finds all items; model.generate would end such IDs early and lose them, with a "
                "SidLogitsProcessor too. Set model.generation_config.eos_token_id to another token.",
                stacklevel=5,  # the caller of `generate`
            )
            return


def _mark(fingerprint: str) -> str:
    """Return a fingerprint short enough to read, with the view that follows it."""
    content, colon, view = fingerprint.partition(":")
    return content[:12] + colon + view
