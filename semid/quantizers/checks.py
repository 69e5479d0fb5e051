"""The arguments of quantizers, checked: sizes, sample, choices."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from semid._arrays import Int64Array
from semid._checks import check_count, check_sizes
from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers.starts import STARTS

__all__ = [
    "auto_codebook_size",
    "check_choice",
    "check_enough",
    "check_hidden_sizes",
    "check_init",
    "check_unchanged",
    "is_auto",
    "sample_limit",
    "sample_rows",
    "sizes_for",
    "sizes_for_batches",
]


def check_hidden_sizes(hidden_sizes: Any) -> tuple[int, ...]:
    """Return the widths of the hidden layers; () is allowed."""
    if isinstance(hidden_sizes, str) or not hasattr(hidden_sizes, "__len__"):
        raise InvalidTypeError(
            f"hidden_sizes has a wrong type: expected a sequence of integers, got {hidden_sizes!r}. Pass (512, 256), "
            "or () for no hidden layer."
        )
    return tuple(check_count(size, f"hidden_sizes[{depth}]") for depth, size in enumerate(hidden_sizes))


def check_choice(value: Any, name: str, choices: Iterable[str | None], *, between: str = " or ") -> Any:
    """Return a name that is one of the choices, of which None may be one, or raise an error that lists them."""
    names = tuple(choices)
    expected = between.join(map(repr, names))
    if not isinstance(value, str | None):  # the value may be unhashable, or an array, which compares element by element
        raise InvalidTypeError(
            f"{name} has a wrong type: expected {expected}, got {type(value).__name__}. Choose one of them."
        )
    if value not in names:
        raise InvalidValueError(f"{name} is unknown: expected {expected}, got {value!r}. Choose one of them.")
    return value


def check_init(init: Any) -> str:
    """Return the name of a start, or say which there are."""
    return str(check_choice(init, "init", STARTS, between=", "))


def check_unchanged(now: Mapping[str, Any], fitted: Mapping[str, Any]) -> None:
    """Raise an InvalidValueError if a parameter that shapes what was learnt has changed since."""
    for name, value in fitted.items():
        if now[name] != value:
            raise InvalidValueError(
                f"{name} is not that of the fit: expected {value!r}, got {now[name]!r}. Set it back with set_params, "
                "or call fit."
            )


AUTO = "auto"
# What "auto" begins with, and what it is checked as before the items are counted.
AUTO_START = 256


def is_auto(codebook_size: Any) -> bool:
    """Return whether the sizes follow from the number of items."""
    return isinstance(codebook_size, str) and codebook_size == AUTO


def sizes_for(codebook_size: Any, n_levels: int, *, n_items: int | None) -> tuple[int, ...]:
    """Return one size per level for so many items; with None, those that "auto" begins with.

    Raises
    ------
    InvalidValueError, InvalidTypeError
        If `codebook_size` is neither "auto" nor a number nor one number per level, or one is below 1.
    """
    if is_auto(codebook_size):
        return (AUTO_START if n_items is None else auto_codebook_size(n_items, int(n_levels)),) * n_levels
    return check_sizes(codebook_size, "codebook_size", n_levels=n_levels)


def sizes_for_batches(codebook_size: Any, n_levels: int) -> tuple[int, ...]:
    """Return one size per level for a quantizer that begins with `partial_fit`, or say that it needs numbers."""
    if is_auto(codebook_size):
        raise InvalidValueError(
            "codebook_size is unknown to partial_fit: expected an integer or one per level, got 'auto', which "
            "needs the number of items. Set it, or call fit."
        )
    return check_sizes(codebook_size, "codebook_size", n_levels=n_levels)


# Below this, centroids follow single rows rather than clusters.
ROWS_PER_CODE = 32


def auto_codebook_size(n_items: int, n_levels: int) -> int:
    """Return the codebook size that ``codebook_size="auto"`` stands for.

    The least power of two from 256 on that makes 128 times as many IDs as there are items, as far as 65,536; then
    halved until there are 32 items per code, but not below 2: a codebook of one code says nothing.

    Examples
    --------
    >>> [auto_codebook_size(n_items, n_levels=3) for n_items in (10, 100, 5_000, 100_000, 10_000_000)]
    [2, 2, 128, 256, 2048]
    """
    size = 256
    while size < 65_536 and size**n_levels < 128 * n_items:
        size *= 2
    while size > 2 and size * ROWS_PER_CODE > n_items:
        size //= 2
    return min(size, n_items)


def check_enough(n_items: int, codebook_sizes: Sequence[int]) -> None:
    """Raise an InvalidValueError if there are fewer items than codes in a codebook."""
    level = int(np.argmax(codebook_sizes))
    size = codebook_sizes[level]
    if n_items < size:
        raise InvalidValueError(
            f"too few items for level {level}: expected at least {size}, its codebook_size, got n_samples={n_items}. "
            "Give more items, lower codebook_size, or set it to 'auto'."
        )


def sample_limit(codebook_sizes: Sequence[int], sample_size: int | None) -> int:
    """Return the most rows to train on.

    None takes 512 per code of the largest codebook, but at least 131,072, at most 262,144, and never below 32 per code.
    At 100k x 384, 3 x 256 codes, half as many leave 1.3 % more distortion.

    Raises
    ------
    InvalidValueError
        If `sample_size` is below the size of a codebook.
    """
    level = int(np.argmax(codebook_sizes))
    size = codebook_sizes[level]
    if sample_size is None:
        return max(ROWS_PER_CODE * size, min(max(131_072, 512 * size), 262_144))
    if sample_size < size:
        raise InvalidValueError(
            f"sample_size is too small for level {level}: expected at least {size}, its codebook_size, got "
            f"{sample_size}. Raise sample_size or leave it None."
        )
    return sample_size


def sample_rows(
    n_items: int, codebook_sizes: Sequence[int], *, sample_size: int | None, rng: np.random.Generator
) -> Int64Array:
    """Return the rows to train on, in increasing order, as a file is read fastest.

    Parameters
    ----------
    n_items : int
    codebook_sizes : sequence of int
    sample_size : int, optional
        At most so many; None as `sample_limit` says.
    rng : numpy.random.Generator

    Raises
    ------
    InvalidValueError
        If there are fewer items, or a smaller sample, than codes in a codebook.
    """
    check_enough(n_items, codebook_sizes)
    limit = sample_limit(codebook_sizes, sample_size)
    if n_items <= limit:
        return np.arange(n_items)
    return np.sort(rng.choice(n_items, limit, replace=False, shuffle=False))
