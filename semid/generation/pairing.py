"""Do a trie and a vocabulary belong together? The check that every way to generate makes first."""

from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["check_pair", "check_vocab"]


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


def _mark(fingerprint: str) -> str:
    """Return a fingerprint short enough to read, with the view that follows it."""
    content, colon, view = fingerprint.partition(":")
    return content[:12] + colon + view
