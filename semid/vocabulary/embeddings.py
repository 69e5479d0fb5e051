"""What `SidVocabulary.extend` changes: tokens in a tokenizer, and rows for them in the embeddings of a model."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from semid._arrays import Int64Array, Matrix
from semid._checks import as_array
from semid.errors import InvalidTypeError, InvalidValueError
from semid.vocabulary.checks import levels_in

__all__ = [
    "add_tokens",
    "are_initial",
    "check_codebooks",
    "check_embedding_rows",
    "check_encoding",
    "check_free_ids",
    "grow",
    "initialise",
    "missing_levels",
]


def missing_levels(tokenizer: Any, names: Sequence[Sequence[str]]) -> list[int]:
    """Return the levels whose tokens a tokenizer lacks; it has all tokens of the others from an earlier call.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    names : sequence of sequence of str
        The names of the tokens of each level, by code.

    Raises
    ------
    InvalidValueError
        If the tokenizer has some tokens of a level but not all, more than the level has codes, or ordinary words that
        look like them.
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
    """Add tokens so that encoding finds them as written and decoding keeps them."""
    from transformers import AddedToken

    # Not normalized: a lower-casing tokenizer would not find them. Not special: decode(skip_special_tokens=True) would
    # drop them.
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=False) for name in names])


def check_free_ids(known: Mapping[str, int], names: Sequence[Sequence[str]], levels: Sequence[Int64Array]) -> None:
    """Raise if a token of a code has an id that another token has.

    A tokenizer whose ids have gaps, such as a pruned one, numbers added tokens from the count of its tokens on, which
    may be the id of a word.

    Parameters
    ----------
    known : mapping of str to int
        The tokens that the tokenizer had before, with their ids.
    names : sequence of sequence of str
        The names of the tokens of each level, by code.
    levels : sequence of ndarray of shape (codebook_size,), dtype int64
        Their ids.
    """
    own = {name for level in names for name in level}
    words = {token_id: word for word, token_id in known.items() if word not in own}
    ids = np.concatenate(levels)
    taken = [int(token_id) for token_id in ids if int(token_id) in words]
    if taken or len(np.unique(ids)) < len(ids):
        got = f"id {taken[0]}, that of {words[taken[0]]!r}" if taken else "one id for two codes"
        raise InvalidValueError(
            f"the tokenizer gives tokens of codes ids that are taken: expected ids of their own, got {got}. Its ids "
            "have gaps: number them without gaps, or add the tokens yourself and use SidVocabulary.from_token_ids."
        )


def check_encoding(tokenizer: Any, text: str, token_ids: Sequence[int]) -> None:
    """Raise unless a tokenizer encodes a text as exactly these tokens."""
    encoded = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if encoded != list(token_ids):
        raise InvalidValueError(
            f"the tokenizer does not keep semantic IDs whole: expected {text} to become {list(token_ids)}, got "
            f"{encoded}. Choose another prefix, or give the model token ids instead of text."
        )


def check_codebooks(codebooks: Any, codebook_sizes: Sequence[int]) -> list[Matrix]:
    """Return the codebooks as float32 arrays of shape (codebook_size, dim), or raise an error naming the level."""
    given = levels_in(codebooks, name="codebooks", each="one array", remedy="Pass quantizer.codebooks, of one view.")
    if len(given) != len(codebook_sizes):
        raise InvalidValueError(
            f"codebooks disagree with the vocabulary: expected {len(codebook_sizes)} levels, got {len(given)}. "
            "Give one codebook per level."
        )
    checked = []
    for level, (codebook, size) in enumerate(zip(given, codebook_sizes, strict=True)):
        array = as_array(codebook, f"codebook of level {level}")
        if array.dtype.kind not in "iuf":
            raise InvalidTypeError(
                f"codebook of level {level} has a wrong dtype: expected numbers, got {array.dtype}. "
                "Pass the codebooks of the quantizer that made the codes."
            )
        array = np.asarray(array, np.float32)
        if array.ndim != 2 or len(array) != size or array.shape[1] == 0:
            raise InvalidValueError(
                f"codebook of level {level} has a wrong shape: expected ({size}, dim), got {array.shape}. "
                "Pass the codebooks of the quantizer that made the codes."
            )
        if not np.isfinite(array).all():
            raise InvalidValueError(
                f"codebook of level {level} is not finite: expected numbers, got inf or nan. Fit again."
            )
        checked.append(array)
    return checked


def check_embedding_rows(model: Any, n_tokens: int, *, resize: bool) -> None:
    """Raise unless a model has an embedding row for each of `n_tokens` tokens, or may get one."""
    if not hasattr(model, "resize_token_embeddings") or not hasattr(model, "get_input_embeddings"):
        raise InvalidTypeError(
            f"model cannot take new tokens: expected a transformers model, got {type(model).__name__}. "
            "Pass the model whose generate you call."
        )
    n_rows = model.get_input_embeddings().weight.shape[0]
    if n_rows < n_tokens and not resize:
        raise InvalidValueError(
            f"the model's embeddings are too small: expected at least {n_tokens} rows, got {n_rows}. "
            f"Pass resize=True, or call model.resize_token_embeddings({n_tokens}) before."
        )


def grow(model: Any, n_tokens: int) -> int:
    """Give a model's embeddings at least `n_tokens` rows, never fewer than they have; return how many they had."""
    n_old = int(model.get_input_embeddings().weight.shape[0])
    if n_old < n_tokens:
        # Mean resizing computes a covariance of dim x dim for rows that `initialise` overwrites.
        model.resize_token_embeddings(n_tokens, mean_resizing=False)
    head = model.get_output_embeddings()
    rows = [part.weight.shape[0] for part in (model.get_input_embeddings(), head) if part is not None]
    if min(rows) < n_tokens:
        raise InvalidValueError(
            f"the model's embeddings are too small: expected at least {n_tokens} rows, got {min(rows)} after resizing. "
            "Resize the input and output embeddings of this model yourself."
        )
    return n_old


@torch.no_grad()
def initialise(
    model: Any, rows: Sequence[Int64Array], codebooks: Sequence[Matrix] | None, *, n_old: int, seed: int
) -> None:
    """Fill the embedding rows of new tokens; `SidVocabulary.extend` describes the values.

    Parameters
    ----------
    model : transformers model
    rows : sequence of ndarray of shape (codebook_size,), dtype int64
        Rows to fill, by level.
    codebooks : sequence of ndarray of shape (codebook_size, dim), dtype float32, or None
    n_old : int
        Number of rows before the model grew. The existing rows are those before both this and the first row to fill.
    seed : int
    """
    if not rows:
        return
    for part, at, values in _first_values(model, rows, codebooks, n_old=n_old, seed=seed):
        part[at] = values


@torch.no_grad()
def are_initial(model: Any, rows: Sequence[Int64Array], codebooks: Sequence[Matrix], *, seed: int) -> bool:
    """Tell whether rows hold what `initialise` writes: two views that share all tokens fill them twice."""
    n_old = int(model.get_input_embeddings().weight.shape[0])
    first = _first_values(model, rows, codebooks, n_old=n_old, seed=seed)
    return all(torch.equal(part[at], values) for part, at, values in first)


def _first_values(
    model: Any, rows: Sequence[Int64Array], codebooks: Sequence[Matrix] | None, *, n_old: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield each weight or bias, the rows of a level in it, and their first values."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    weights = [embedding.weight]
    if head is not None and head.weight.data_ptr() != embedding.weight.data_ptr():
        weights.append(head.weight)
    n_old = min(n_old, *(int(level.min()) for level in rows))
    generator = torch.Generator().manual_seed(seed)
    for weight in weights:
        mean, std = _mean_and_std(weight[:n_old])
        rotations: dict[int, torch.Tensor] = {}
        for level, token_ids in enumerate(rows):
            deviation = torch.randn(len(token_ids), len(mean), generator=generator) * std
            if codebooks is not None:
                centroids = torch.from_numpy(codebooks[level] - codebooks[level].mean(axis=0))
                dim = centroids.shape[1]
                if dim not in rotations:  # the same for all levels, so that sums over levels keep their geometry
                    rotations[dim] = _rotation(dim, len(mean), generator)
                turned = centroids @ rotations[dim]
                length = turned.square().sum(1).mean().sqrt()
                if length > 0:  # if all centroids are equal, the noise stays
                    deviation = turned * (std.square().sum().sqrt() / length)
            yield weight, torch.tensor(token_ids, device=weight.device), (mean + deviation).to(weight)
    bias = getattr(head, "bias", None)
    if bias is not None:
        for token_ids in rows:
            at = torch.tensor(token_ids, device=bias.device)
            yield bias, at, bias[:n_old].mean().expand(len(at))


def _mean_and_std(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    total = torch.zeros(weight.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for first in range(0, len(weight), 8192):  # by blocks: a table of 150k rows may not fit in float64
        values = weight[first : first + 8192].to(device="cpu", dtype=torch.float64)
        total += values.sum(0)
        squares += values.square().sum(0)
    mean = total / max(len(weight), 1)
    return mean.float(), (squares / max(len(weight), 1) - mean.square()).clamp(min=0).sqrt().float()


def _rotation(dim: int, hidden_size: int, generator: torch.Generator) -> torch.Tensor:
    """Return a random (dim, hidden_size) matrix with orthonormal rows (dim <= hidden_size) or columns."""
    gaussian = torch.randn(max(dim, hidden_size), min(dim, hidden_size), generator=generator, dtype=torch.float64)
    basis: torch.Tensor = torch.linalg.qr(gaussian).Q.float()
    return basis.T if dim <= hidden_size else basis
