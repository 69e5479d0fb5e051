"""Do a catalogue, a trie, a vocabulary and a trained model belong together? Each one carries a fingerprint to tell."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from semid._checks import shown
from semid.catalog.contents import Contents, title
from semid.catalog.item_keys import IntKeys
from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie import Trie

__all__ = ["NAME", "Identity", "check_model_pair", "check_trie", "check_vocab_pair", "fingerprint_of", "sign_config"]

# The entry of a model's config that names the catalogue it was trained on; Hugging Face saves it in config.json.
NAME = "semid"


class Identity(NamedTuple):
    """Which catalogue this is, and in which generation.

    Attributes
    ----------
    fingerprint : str
        As `fingerprint_of` returns it.
    generation, last_reuse : int
        As in `SemanticIds`.
    history : mapping of int to str
        Fingerprints of generations, this one among them.
    """

    fingerprint: str
    generation: int
    last_reuse: int
    history: Mapping[int, str]

    def of_trie(self, view: str | None) -> str:
        """Return the fingerprint of the trie of a view."""
        return self.fingerprint if view is None else f"{self.fingerprint}:{view}"


def fingerprint_of(contents: Contents) -> str:
    """Return SHA-256 of ids, codes and codebook sizes, in hexadecimal; the order of the items does not matter."""
    digest = hashlib.sha256()
    views = sorted(contents.codes, key=str)
    # The items in the order of their codes in the first view by name.
    order = contents.order[views[0]]
    for view in views:
        digest.update(repr((view, tuple(contents.codebook_sizes[view]))).encode())
        digest.update(np.ascontiguousarray(contents.codes[view][order], "<u4").tobytes())
    are_int = isinstance(contents.keys, IntKeys)
    digest.update(b"int" if are_int else b"str")
    for ids in contents.keys.blocks(order):
        # An id holds no NUL, so NUL separates the ids.
        digest.update(np.array(ids, "<i8").tobytes() if are_int else "".join(f"{i}\0" for i in ids).encode())
    return digest.hexdigest()


def check_trie(contents: Contents, identity: Identity, trie: Any, view: str | None) -> None:
    """Raise unless a trie holds exactly the present items: in any other generation its ranks mean other items."""
    if not isinstance(trie, Trie):
        raise InvalidTypeError(f"trie has a wrong type: expected a Trie, got {type(trie).__name__}. Pass sids.trie().")
    expected = identity.of_trie(view)
    if trie.fingerprint != expected:
        raise InvalidValueError(
            f"the trie is of another catalogue: expected {expected}, got {trie.fingerprint} ({trie.n_items} items "
            f"against {len(contents.keys)}). {_past(identity, str(trie.fingerprint).partition(':')[0])}Take the trie "
            "from sids.trie(view) after the last change."
        )


def _past(identity: Identity, fingerprint: str) -> str:
    """Return a sentence for a message if a fingerprint is that of an earlier generation."""
    past = [one for one, known in identity.history.items() if known == fingerprint and one != identity.generation]
    return f"It is of generation {past[-1]}, and this is {identity.generation}. " if past else ""


def check_vocab_pair(contents: Contents, vocab: Any, view: str | None) -> None:
    """Raise unless a vocabulary has a token for each code; this depends on the codebook sizes, not on the items."""
    sizes = contents.codebook_sizes[view]
    if not hasattr(vocab, "to_tokens"):
        raise InvalidTypeError(
            f"vocab has a wrong type: expected a SidVocabulary, got {type(vocab).__name__}. Pass one vocabulary."
        )
    got = tuple(vocab.codebook_sizes)
    if len(got) != len(sizes) or any(have < need for have, need in zip(got, sizes, strict=True)):
        raise InvalidValueError(
            f"the vocabulary does not fit the {title(view)}: expected codebook sizes of at least {sizes}, got {got}. "
            "Make it with SidVocabulary(sids.codebook_sizes)."
        )


def sign_config(contents: Contents, identity: Identity, model: Any, vocab: Any) -> dict[str, Any]:
    """Write into a model's config which catalogue and vocabularies it is trained on; return that entry."""
    named: Mapping[str | None, Any] = {}
    if isinstance(vocab, Mapping):
        named = {contents.view_named(view): one for view, one in vocab.items()}
    elif vocab is not None:
        if len(contents.codes) > 1:
            raise InvalidValueError(
                f"vocab has no view: expected a mapping with the views {list(contents.codes)}, got one vocabulary. "
                "Pass one per view."
            )
        named = dict.fromkeys(contents.codes, vocab)
    for view, one in named.items():
        check_vocab_pair(contents, one, view)
    signature = {
        "fingerprint": identity.fingerprint,
        "generation": identity.generation,
        "vocabularies": {view or "": one.fingerprint for view, one in named.items()},
    }
    config = getattr(model, "config", model)
    if isinstance(config, dict):
        config[NAME] = signature
    elif hasattr(config, "to_dict"):
        setattr(config, NAME, signature)
    else:
        raise InvalidTypeError(
            f"model has a wrong type: expected a transformers model, its config or a dict, got {type(model).__name__}. "
            "Keep the signature that sign({}) returns beside your model."
        )
    return signature


def check_model_pair(identity: Identity, model: Any, vocab: Any, view: str | None) -> None:
    """Raise unless a model was trained on this catalogue, in a generation whose IDs still mean the same items.

    Items added since then are unknown to the model, and items removed since then are not in the trie: both are fine.
    An ID that was given to another item since then is not.
    """
    signature = _signature(model)
    trained_on = signature["fingerprint"]
    generations = [generation for generation, one in identity.history.items() if one == trained_on]
    if not generations:
        raise InvalidValueError(
            f"the model was trained on another catalogue: expected fingerprint {identity.fingerprint} or that of an "
            f"earlier generation, got {trained_on} (generation {signature['generation']}). "
            "Load the catalogue that was saved with the model."
        )
    if max(generations) < identity.last_reuse:
        raise InvalidValueError(
            f"the model may take new items for removed ones: expected no reuse of IDs after generation "
            f"{max(generations)}, on which it was trained ({trained_on}), got one in generation {identity.last_reuse} "
            f"of {identity.fingerprint}. Train it again."
        )
    if vocab is None:
        return
    expected = signature["vocabularies"].get(view or "")
    if expected != vocab.fingerprint:
        known = f"{expected}" if expected else f"one of the views {shown(sorted(signature['vocabularies']))}"
        raise InvalidValueError(
            f"the model was trained with another vocabulary: expected {known}, got {vocab.fingerprint}. "
            "Load the vocabulary that was saved with the model."
        )


def _signature(model: Any) -> Mapping[str, Any]:
    config = getattr(model, "config", model)
    signature = config.get(NAME) if isinstance(config, Mapping) else getattr(config, NAME, None)
    if not isinstance(signature, Mapping) or not {"fingerprint", "generation", "vocabularies"} <= set(signature):
        raise InvalidValueError(
            f"the model does not say what it was trained on: expected an entry {NAME!r} in its config, got "
            f"{signature!r}. Call sids.sign(model) before it is saved."
        )
    return signature
