"""Tokens of semantic IDs in a Hugging Face tokenizer: find, add, and check that they stay whole."""

import re
from collections.abc import Sequence
from typing import Any

from semid.errors import InvalidValueError

__all__ = ["add_tokens", "check_encoding", "missing_levels"]


def missing_levels(tokenizer: Any, names: Sequence[Sequence[str]]) -> list[int]:
    """Return the levels whose tokens a tokenizer lacks; the others are there from an earlier call, all or none.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    names : sequence of sequence of str
        Per level, the token of each code.

    Raises
    ------
    InvalidValueError
        If some but not all tokens of a level exist, or more codes than the level has, or ordinary words look like them.
    """
    known, added = tokenizer.get_vocab(), tokenizer.get_added_vocab()
    missing = []
    for level, wanted in enumerate(names):
        stem = wanted[0].removesuffix("0>")
        pattern = re.compile(re.escape(stem) + r"\d+>")
        present = sorted(token for token in known if token.startswith(stem) and pattern.fullmatch(token))
        if not present:
            missing.append(level)
        elif set(present) != set(wanted) or not set(present) <= set(added):
            raise InvalidValueError(
                f"tokens clash at level {level}: expected none or exactly the {len(wanted)} tokens {wanted[0]} .. "
                f"{wanted[-1]} of an earlier extend, got {len(present)} such as {present[0]}. Choose another prefix."
            )
    return missing


def add_tokens(tokenizer: Any, names: Sequence[str]) -> None:
    """Add tokens that are found as they are written, and that decoding keeps."""
    from transformers import AddedToken

    # Not normalized: a lower-casing tokenizer would otherwise no longer find them. Not special: decode with
    # skip_special_tokens=True must keep them.
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=False) for name in names])


def check_encoding(tokenizer: Any, text: str, token_ids: Sequence[int]) -> None:
    """Raise unless a tokenizer encodes a text as these tokens, and nothing before, between or after them."""
    encoded = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if encoded != list(token_ids):
        raise InvalidValueError(
            f"the tokenizer does not keep semantic IDs whole: expected {text} to become {list(token_ids)}, got "
            f"{encoded}. Choose another prefix, or give the model token ids instead of text."
        )
