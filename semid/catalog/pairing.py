"""Do a catalogue, a trie, a vocabulary and a trained model belong together? Each carries what this needs to know."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from semid._checks import shown
from semid.catalog.messages import title
from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie import Trie

if TYPE_CHECKING:
    from semid.catalog.semantic_ids import SemanticIds

__all__ = ["NAME", "check_model", "check_trie", "check_vocab", "sign_config"]

# Under this name a model's config holds what it was trained on; Hugging Face saves it in the model's config.json.
NAME = "semid"


def check_trie(sids: "SemanticIds", trie: Any, view: str | None) -> None:
    """Raise unless a trie reaches exactly the present items: its ranks mean other items in any other generation."""
    if not isinstance(trie, Trie):
        raise InvalidTypeError(f"trie has a wrong type: expected a Trie, got {type(trie).__name__}. Pass sids.trie().")
    expected = sids.trie_fingerprint(view)
    if trie.fingerprint != expected:
        raise InvalidValueError(
            f"the trie is of another catalogue: expected {expected}, got {trie.fingerprint} ({trie.n_items} items "
            f"against {len(sids)}). {_past(sids, str(trie.fingerprint).partition(':')[0])}Take the trie from "
            "sids.trie(view) after the last change."
        )


def check_vocab(sids: "SemanticIds", vocab: Any, view: str | None) -> None:
    """Raise unless a vocabulary has a token for each code; it depends on codebook sizes alone, never on the items."""
    sizes = sids.codebook_sizes if view is None else sids.codebook_sizes[view]
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


def sign_config(sids: "SemanticIds", model: Any, vocab: Any) -> dict[str, Any]:
    """Write into a model's config which catalogue and vocabularies it is trained on, and return that."""
    named = vocab if isinstance(vocab, Mapping) else {} if vocab is None else {_only_view(sids): vocab}
    for view, one in named.items():
        check_vocab(sids, one, view)
    signature = {
        "fingerprint": sids.fingerprint,
        "generation": sids.generation,
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


def check_model(sids: "SemanticIds", model: Any, vocab: Any, view: str | None) -> None:
    """Raise unless a model was trained on this catalogue, now or in a generation whose IDs still mean the same items.

    Items added since are unknown to it, and items removed are out of the trie; both are fine. An ID that has been given
    to another item since is not.
    """
    signature = _signature(model)
    trained_on = signature["fingerprint"]
    generations = [generation for generation, one in sids.history.items() if one == trained_on]
    if sids.fingerprint == trained_on:
        generations.append(sids.generation)
    if not generations:
        raise InvalidValueError(
            f"the model was trained on another catalogue: expected fingerprint {sids.fingerprint} or an earlier one of "
            f"its {sids.generation} changes, got {trained_on} (generation {signature['generation']}). "
            "Load the catalogue that was saved with the model."
        )
    if max(generations) < sids.last_reuse:
        raise InvalidValueError(
            f"the model may take new items for removed ones: expected no reuse of IDs after generation "
            f"{max(generations)}, on which it was trained ({trained_on}), got one in generation {sids.last_reuse} of "
            f"{sids.fingerprint}. Train it again."
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


def _only_view(sids: "SemanticIds") -> str | None:
    if len(sids.views) > 1:
        raise InvalidValueError(
            f"vocab is of no view: expected a mapping with the views {list(sids.views)}, got one vocabulary. "
            "Pass one per view."
        )
    return next(iter(sids.views), None)


def _signature(model: Any) -> Mapping[str, Any]:
    config = getattr(model, "config", model)
    signature = config.get(NAME) if isinstance(config, Mapping) else getattr(config, NAME, None)
    if not isinstance(signature, Mapping) or not {"fingerprint", "generation", "vocabularies"} <= set(signature):
        raise InvalidValueError(
            f"the model does not say what it was trained on: expected an entry {NAME!r} in its config, got "
            f"{signature!r}. Call sids.sign(model) before it is saved."
        )
    return signature


def _past(sids: "SemanticIds", fingerprint: str) -> str:
    """Return a sentence if a fingerprint is that of an earlier generation."""
    past = [generation for generation, one in sids.history.items() if one == fingerprint]
    past = [generation for generation in past if generation != sids.generation]
    return f"It is of generation {past[-1]}, and this is {sids.generation}. " if past else ""
