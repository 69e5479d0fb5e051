"""Checks of what several rooms are given: whole numbers, codebook sizes, arrays, ranks, item ids, views, a quantizer.

It lies below all rooms and imports none of them.
"""

import inspect
import operator
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Any

import numpy as np

from semid._arrays import Array, CodeArray, Int64Array, IntArray
from semid.errors import InvalidTypeError, InvalidValueError

__all__ = [
    "MOST_CANDIDATES",
    "MOST_LEVELS",
    "as_array",
    "as_ids",
    "as_integers",
    "check_count",
    "check_errors",
    "check_id_types",
    "check_integer",
    "check_quantizer",
    "check_ranks",
    "check_shared_codes",
    "check_sizes",
    "check_view_names",
    "check_views",
    "code_dtype",
    "fits_int64",
    "has_member",
    "ids_repeat",
    "shown",
]


# Levels of a quantizer: far more than an ID has, so few that a mistaken number fills no memory.
MOST_LEVELS = 1024
# IDs that a search looks at for an item.
MOST_CANDIDATES = 1 << 20


def check_integer(value: Any, name: str, *, remedy: str = "Pass a whole number.") -> int:
    """Return a whole number of any type, NumPy's too, as an int; a bool is not one.

    Raises
    ------
    InvalidTypeError
        If it is anything else.
    """
    try:
        return _whole(value)
    except TypeError as error:
        raise InvalidTypeError(
            f"{name} has a wrong type: expected an integer, got {_described(value)}. {remedy}"
        ) from error


def check_count(value: Any, name: str, *, least: int = 1, most: int | None = None, remedy: str | None = None) -> int:
    """Return a whole number in ``least .. most`` as an int; `remedy` ends the messages in place of a general one.

    Raises
    ------
    InvalidTypeError
        If it is not a whole number.
    InvalidValueError
        If it is too small or too large.
    """
    try:
        count = _whole(value)
    except TypeError as error:
        raise InvalidTypeError(
            f"{name} is not an integer: expected {least} or more, got {_described(value)}. "
            f"{remedy or 'Pass a whole number.'}"
        ) from error
    if count < least:
        raise InvalidValueError(f"{name} is too small: expected {least} or more, got {count}. {remedy or 'Raise it.'}")
    if most is not None and count > most:
        raise InvalidValueError(f"{name} is too large: expected at most {most}, got {count}. {remedy or 'Lower it.'}")
    return count


def check_sizes(sizes: Any, name: str = "codebook_sizes", *, n_levels: int | None = None) -> tuple[int, ...]:
    """Return positive whole numbers, one per level, as ints.

    Parameters
    ----------
    sizes : sequence of int, or one int for all levels where `n_levels` is given
    name : str
        What messages call `sizes`.
    n_levels : int, optional
        Number of sizes that is required; by default any but 0.
    """
    if n_levels is not None:
        n_levels = check_count(n_levels, "n_levels", most=MOST_LEVELS)  # a tuple times an array is a product
    if n_levels is not None and not np.iterable(sizes) and _is_whole(sizes):
        return (check_count(sizes, name),) * n_levels
    # An iterator would be empty when it is read again, and the order of a set is arbitrary.
    if isinstance(sizes, str | bytes | Mapping | Set | Iterator) or not np.iterable(sizes):
        expected = "a sequence of integers" if n_levels is None else "an integer or one per level"
        raise InvalidTypeError(
            f"{name} has a wrong type: expected {expected}, got {_described(sizes)}. Write [256, 256, 256]."
        )
    each = list(sizes)
    if n_levels is not None and len(each) != n_levels:
        raise InvalidValueError(
            f"{name} has a wrong length: expected one size for each of {n_levels} levels, got {len(each)}. "
            "Give one size per level."
        )
    if not each:
        raise InvalidValueError(f"{name} is empty: expected at least one level, got none. Write [256, 256, 256].")
    return tuple(check_count(size, f"{name}[{level}]") for level, size in enumerate(each))


def code_dtype(codebook_size: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the smallest unsigned dtype that holds the codes ``0 .. codebook_size - 1``."""
    return np.min_scalar_type(codebook_size - 1)


def _whole(value: Any) -> int:
    """Return a whole number as an int, or raise a TypeError."""
    if type(value) is int:  # every step of a search comes by
        return value
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _is_whole(value: Any) -> bool:
    try:
        _whole(value)
    except TypeError:
        return False
    return True


def _described(value: Any) -> str:
    """Return a short value, or its type, for a message."""
    return repr(value) if value is None or isinstance(value, str | int | float) else type(value).__name__


def as_array(values: Any, name: str, *, remedy: str = "Pad or repair it.") -> Array:
    """Return what NumPy makes of an array-like, a torch tensor among them, of any shape and dtype."""
    if hasattr(values, "detach"):  # a torch tensor, known without importing torch
        return _from_tensor(values, name)
    if hasattr(values, "tocsr"):
        raise InvalidTypeError(
            f"{name} is a sparse matrix: expected a dense array, got {type(values).__name__}. Call its toarray()."
        )
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidValueError(
            f"{name} is ragged: expected rows of one length, got {type(values).__name__} ({error}). {remedy}"
        ) from error
    except (TypeError, OverflowError) as error:
        raise InvalidTypeError(
            f"{name} is no array: expected numbers, got {type(values).__name__} ({error}). {remedy}"
        ) from error


def as_integers(values: Any, name: str, *, remedy: str = "Convert whole numbers with astype.") -> IntArray:
    """Return integers as an array of any shape and integer dtype; an empty list, which NumPy calls float64, as int64.

    Raises
    ------
    InvalidTypeError
        If the dtype is not that of integers.
    """
    array = as_array(values, name)
    if array.dtype.kind not in "iu":
        if array.size:
            raise InvalidTypeError(f"{name} has a wrong dtype: expected integers, got {array.dtype}. {remedy}")
        array = np.empty(array.shape, np.int64)
    return array


def check_ranks(ranks: Any, *, n_items: int, least: int = 0, name: str = "ranks") -> Int64Array:
    """Return ranks in ``least .. n_items - 1`` as an int64 array of any shape; `least` is -1 where slots may be empty.

    Raises
    ------
    InvalidTypeError
        If they are not integers.
    InvalidValueError
        If one is out of range.
    """
    given = as_integers(ranks, name, remedy="Pass ranks, not item ids.")
    # Before any conversion, in which 2^64 - 1 would become -1.
    if given.size and (given.min() < least or given.max() >= n_items):
        wrong = given[(given < least) | (given >= n_items)].flat[0]
        raise InvalidValueError(
            f"{name} holds a rank out of range: expected {least} .. {n_items - 1}, got {wrong}. "
            "Take ranks from Trie.rank or SemanticIds.ranks_of of the same items."
        )
    return given.astype(np.int64)


def _from_tensor(tensor: Any, name: str) -> Array:
    try:
        tensor = tensor.detach().cpu()
        # NumPy has no other float of 16 or 8 bits than float16.
        if tensor.is_floating_point() and tensor.element_size() <= 2 and str(tensor.dtype) != "torch.float16":
            tensor = tensor.float()
        return np.asarray(tensor)
    except (TypeError, RuntimeError) as error:  # a NotImplementedError is a RuntimeError
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InvalidTypeError(
            f"{name} is a tensor without plain numbers: expected a dense tensor, got {tensor.layout}, {tensor.dtype} "
            f"on device {tensor.device} ({reason}). Make it one, as with to_dense() or dequantize()."
        ) from error


def as_ids(item_ids: Any) -> Int64Array | list[Any]:
    """Return item ids as an int64 array where that is possible, else as a list; their types are not checked.

    Parameters
    ----------
    item_ids : iterable of int or str
        A list, an array or tensor, a column of a data frame. A set is refused, because its order is arbitrary.

    Returns
    -------
    ids : ndarray of shape (n_items,), dtype int64, or list
        A new array.

    Raises
    ------
    InvalidTypeError
        If it is a single id, or has no order.
    """
    if isinstance(item_ids, str | bytes) or not np.iterable(item_ids):
        got = f"the {type(item_ids).__name__} {item_ids!r}"
        raise InvalidTypeError(
            f"item_ids have a wrong type: expected a sequence of ids, got {got}. Write [{item_ids!r}]."
        )
    if isinstance(item_ids, set | frozenset):
        raise InvalidTypeError(
            f"item_ids have no order: expected a sequence of ids, one per row, got a {type(item_ids).__name__}. "
            "Pass a list in the order of the rows."
        )
    if isinstance(item_ids, np.ndarray) and item_ids.ndim == 1 and item_ids.dtype.kind == "i":
        return item_ids.astype(np.int64)
    ids = item_ids.tolist() if hasattr(item_ids, "tolist") else list(item_ids)
    kinds = set(map(type, ids))
    if kinds and all(map(_is_int_type, kinds)):
        try:
            return np.array(ids if kinds == {int} else list(map(int, ids)), np.int64)
        except OverflowError:
            return ids
    return ids


def check_id_types(ids: Sequence[Any]) -> None:
    """Raise an InvalidTypeError unless item ids are all int, of any width, or all str."""
    kinds = set(map(type, ids))
    if not all(map(_is_int_type, kinds)) and not all(issubclass(kind, str) for kind in kinds):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InvalidTypeError(
            f"item_ids have wrong types: expected all int or all str, got {names}. Convert them to one type."
        )


def ids_repeat(repeated: Sequence[Any]) -> InvalidValueError:
    """Return the error for item ids of which some occur more than once."""
    return InvalidValueError(
        f"item_ids repeat: expected each id once, got {shown(repeated)} more than once. Drop the duplicates."
    )


def shown(values: Collection[Any]) -> str:
    """Return the first few values as text for a message."""
    first = [value.item() if isinstance(value, np.generic) else value for value in islice(values, 5)]
    return f"{first}{f' and {len(values) - 5} more' if len(values) > 5 else ''}"


def fits_int64(item_id: Any) -> bool:
    """Return whether an item id is an integer of 64 bits."""
    return _is_int_type(type(item_id)) and -(2**63) <= item_id < 2**63


def _is_int_type(kind: type) -> bool:
    return issubclass(kind, int | np.integer) and not issubclass(kind, bool)


def check_views(views: Any) -> tuple[str, ...]:
    """Return the names of one or more different views."""
    names = () if isinstance(views, str) or not isinstance(views, Iterable) else tuple(views)
    if isinstance(views, str) or not isinstance(views, Iterable) or not all(isinstance(view, str) for view in names):
        raise InvalidTypeError(
            f"views have a wrong type: expected a sequence of names, got {views!r}. Pass a tuple of str."
        )
    if not names or len(set(names)) < len(names):
        raise InvalidValueError(
            f"views are wrong: expected one or more different names, got {names}. Name each view once."
        )
    return names


def check_view_names(given: Any, views: Sequence[str], *, name: str) -> None:
    """Raise unless a mapping has exactly the entries `views`."""
    expected = ", ".join(map(repr, views))
    if not isinstance(given, Mapping):
        raise InvalidTypeError(
            f"{name} is not a mapping: expected one array for each of {expected}, got {type(given).__name__}. "
            "Pass a dict."
        )
    missing = [view for view in views if view not in given]
    unknown = [view for view in given if view not in views]
    if missing or unknown:
        wrong = f"has no view {missing[0]!r}" if missing else f"has an unknown view {unknown[0]!r}"
        raise InvalidValueError(
            f"{name} {wrong}: expected {expected}, got {', '.join(map(repr, given))}. Correct the names, or the "
            "quantizer's views."
        )


def check_shared_codes(codes: Mapping[str, CodeArray], n_shared: int, *, name: str = "codes") -> None:
    """Raise unless all views have the same items and, on the first `n_shared` levels, the same codes."""
    (first, expected), *others = codes.items()
    for view, rows in others:
        if len(rows) != len(expected):
            raise InvalidValueError(
                f"{name} of views {first!r} and {view!r} disagree: expected {len(expected)} rows, got {len(rows)}. "
                "Row i of every view must be item i."
            )
        wrong = np.flatnonzero((rows[:, :n_shared] != expected[:, :n_shared]).any(axis=1))
        if len(wrong):
            row = int(wrong[0])
            raise InvalidValueError(
                f"{name} of views {first!r} and {view!r} disagree in the shared levels of row {row}: expected "
                f"{expected[row, :n_shared].tolist()}, got {rows[row, :n_shared].tolist()}. The first {n_shared} "
                "levels belong to all views."
            )


def check_errors(errors: Any) -> None:
    """Raise unless `errors` says what to do with an unknown id or token."""
    if not isinstance(errors, str) or errors not in ("raise", "ignore"):
        raise InvalidValueError(f"errors is unknown: expected 'raise' or 'ignore', got {errors!r}.")


def check_quantizer(quantizer: Any, needed: Sequence[str]) -> None:
    """Raise an InvalidTypeError unless an object has the members that are needed.

    Any class with these members will do. Whether it is fitted is not checked: the quantizer reports that itself.
    """
    if isinstance(quantizer, type):
        raise InvalidTypeError(
            f"quantizer has a wrong type: expected a fitted quantizer, got the class {quantizer.__name__}. "
            f"Pass {quantizer.__name__}(..).fit(X)."
        )
    missing = [name for name in needed if not has_member(quantizer, name)]
    if missing:
        raise InvalidTypeError(
            f"quantizer has a wrong type: expected a fitted quantizer, got {type(quantizer).__name__}, which has no "
            f"{', '.join(missing)}. Pass one of semid's, such as ResidualKMeans, or one with the same methods."
        )


def has_member(value: Any, name: str) -> bool:
    """Return whether an object has a member, also where reading it raises.

    `hasattr` says no where a quantizer is not fitted: scikit-learn's NotFittedError is an AttributeError.
    """
    try:
        inspect.getattr_static(value, name)
    except AttributeError:
        return hasattr(value, name)  # through __getattr__, as wrappers do
    return True
