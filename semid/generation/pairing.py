"""Do a trie and a vocabulary belong together? The check that every way to generate makes first."""

from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie import Trie
from semid.vocabulary import SidVocabulary

__all__ = ["check_pair", "check_vocab"]


def check_pair(trie: Trie, vocab: SidVocabulary) -> None:
    """Raise unless every code of the trie has a token in the vocabulary.

    Parameters
    ----------
    trie : Trie
    vocab : SidVocabulary
        That knows its token ids.

    Raises
    ------
    InvalidTypeError, InvalidValueError
        If one of them is something else, or their shapes differ.
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


def check_vocab(vocab: SidVocabulary) -> None:
    """Raise unless `vocab` is a vocabulary that knows its token ids."""
    if not isinstance(vocab, SidVocabulary):
        raise InvalidTypeError(
            f"vocab has a wrong type: expected a semid.SidVocabulary, got {type(vocab).__name__}. Make one first."
        )
    _ = vocab.level_tokens  # raises when it has not been extended
