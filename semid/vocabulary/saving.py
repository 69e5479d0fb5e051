"""What a folder says of a vocabulary, token ids included."""

import os
from typing import Any, NamedTuple

import numpy as np

from semid._arrays import Array, Int64Array
from semid._checks import check_sizes, shown
from semid.errors import FormatError
from semid.io.persistence import read_folder, write_folder
from semid.vocabulary.checks import check_eos, check_prefixes, check_token_ids

__all__ = ["Saved", "read_vocabulary", "write_vocabulary"]


class Saved(NamedTuple):
    """The attributes of a `SidVocabulary`; `level_tokens` is empty before it has been extended."""

    codebook_sizes: tuple[int, ...]
    prefixes: tuple[str, ...]
    level_tokens: tuple[Int64Array, ...]
    eos_token_id: int | None
    catalogue: str | None
    generation: int | None


def write_vocabulary(folder: str | os.PathLike[str], saved: Saved, *, text: str) -> None:
    """Write a vocabulary; `text` describes it in the folder's card."""
    arrays: dict[str, Any] = {f"level_{level}": tokens for level, tokens in enumerate(saved.level_tokens)}
    arrays["codebook_sizes"] = np.asarray(saved.codebook_sizes, np.int64)
    config = {name: getattr(saved, name) for name in ("eos_token_id", "catalogue", "generation")}
    config["prefixes"] = list(saved.prefixes)
    card = f"# Semantic ID vocabulary\n\n{text}\n\nLoad it with `semid.SidVocabulary.from_pretrained`."
    write_folder(folder, class_name="SidVocabulary", config=config, arrays=arrays, card=card)


def read_vocabulary(folder: str | os.PathLike[str]) -> Saved:
    """Read a vocabulary, or raise FormatError if the folder is missing, damaged, or holds something else."""
    config, arrays = read_folder(folder, class_name="SidVocabulary")
    try:
        return _restore(config, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(
            f"{folder} is damaged: expected the levels of a vocabulary, got {type(error).__name__}: {error}. "
            "Save it again."
        ) from error


def _restore(config: dict[str, Any], arrays: dict[str, Array]) -> Saved:
    sizes = check_sizes(arrays.pop("codebook_sizes").tolist())
    levels = enumerate(sizes) if arrays else ()
    tokens = tuple(check_token_ids(arrays.pop(f"level_{level}"), level, size) for level, size in levels)
    prefixes, eos_token_id = config.pop("prefixes"), check_eos(config.pop("eos_token_id"), tokens)
    # Folders of earlier versions do not have them.
    catalogue, generation = config.pop("catalogue", None), config.pop("generation", None)
    if config or arrays:
        raise ValueError(f"unknown entries {shown([*config, *arrays])}")
    # Tokens that were given by their ids have no names.
    names = check_prefixes(prefixes, len(sizes)) if prefixes or not tokens else ()
    if not isinstance(catalogue, str | None) or not isinstance(generation, int | None):
        raise TypeError(f"a tie to catalogue {catalogue!r} of generation {generation!r}")
    return Saved(sizes, names, tokens, eos_token_id, catalogue, generation)
