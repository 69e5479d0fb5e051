"""Rows of codes in any order to sorted distinct keys.

The codes of a row's first ``n_key`` levels, ``bits[level]`` bits each, are its *prefix*. The prefix without its
``n_low`` lowest bits is the number of a *bucket*, and the keys of a bucket lie together, up to ``ends[bucket]``: so a
*key* needs the low bits only. Where a prefix cannot be the whole row, the lowest ``n_position`` bits of a key are the
row's position in `codes`, and the low bits stand above them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from semid._arrays import IntArray
from semid.kernels.compile import inlined, njit

__all__ = [
    "count_keys",
    "drop_repeats",
    "fork_level",
    "fork_limits",
    "low_bits",
    "scatter_keys",
    "sort_keys",
    "sort_ties",
]


_1 = np.uint64(1)
# So many keys are sorted by counting who is smaller, which has no branches to guess wrong.
FEW = 64
# Bits of the digits by which more of them are spread over groups.
DIGIT_BITS = 8


@inlined
def low_bits(number: Any, n_bits: Any) -> Any:
    """Return the lowest bits of a number."""
    return number & ((_1 << np.uint64(n_bits)) - _1) if n_bits < 64 else number


@inlined
def pack_row(codes: IntArray, bits: IntArray, row: Any, first: Any, last: Any) -> Any:
    """Return the codes of the levels ``first .. last - 1`` of a row as one number."""
    packed = np.uint64(codes[row, first])
    for level in range(first + 1, last):
        packed = (packed << np.uint64(bits[level])) | np.uint64(codes[row, level])
    return packed


@inlined
def bucket_of(prefix: Any, n_low: Any) -> Any:
    """Return the number of a prefix's bucket."""
    return np.int64(prefix >> np.uint64(n_low)) if n_low < 64 else np.int64(0)


@njit
def fork_limits(bits: IntArray, n_key: Any) -> Any:
    """Return for each level of a prefix the number below which two that are XORed agree on the level and before it."""
    limits = np.ones(n_key, np.uint64)
    for level in range(n_key - 2, -1, -1):
        limits[level] = limits[level + 1] << np.uint64(bits[level + 1])
    return limits


@inlined
def fork_level(
    codes: IntArray, limits: npt.NDArray[np.uint64], prefix: Any, other: Any, row: Any, other_row: Any
) -> Any:
    """Return the first level at which sorted items differ, ``n_levels`` where none does."""
    n_key, differ = limits.shape[0], prefix ^ other
    level = np.int64(0)
    for at in range(n_key):  # all of them: no branch to guess wrong
        level += np.int64(differ < limits[at])
    if level == n_key:
        while level < codes.shape[1] and codes[row, level] == codes[other_row, level]:
            level += 1
    return level


@njit
def count_keys(codes: IntArray, bits: IntArray, n_key: Any, n_low: Any, n_position: Any, ends: IntArray) -> None:
    """Write into `ends`, all 0 before, where the keys of each bucket begin."""
    for row in range(codes.shape[0]):
        ends[bucket_of(pack_row(codes, bits, row, 0, n_key), n_low)] += 1
    first = 0
    for bucket in range(ends.shape[0]):
        n = ends[bucket]
        ends[bucket] = first
        first += n


@njit
def scatter_keys(
    codes: IntArray, bits: IntArray, n_key: Any, n_low: Any, n_position: Any, ends: IntArray, keys: IntArray
) -> None:
    """Write each row's key to the next place of its bucket; `ends`, where buckets begin, becomes where they end."""
    for row in range(codes.shape[0]):
        prefix = pack_row(codes, bits, row, 0, n_key)
        bucket = bucket_of(prefix, n_low)
        key = low_bits(prefix, n_low)
        if n_position > 0:
            key = (key << np.uint64(n_position)) | np.uint64(row)
        keys[ends[bucket]] = key
        ends[bucket] += 1


@njit
def sort_few(keys: IntArray, sorted_keys: IntArray) -> None:
    """Sort at most `FEW` keys, into `sorted_keys` and back."""
    n = keys.shape[0]
    total: Any = 0
    for one in range(n):
        key = keys[one]
        slot: Any = np.int64(0)
        for other in range(n):
            slot += np.int64(keys[other] < key)
        sorted_keys[slot] = key
        total += slot
    if total == n * (n - 1) // 2:  # so they all differ, and each slot has its key
        for at in range(n):
            keys[at] = sorted_keys[at]
        return
    for at in range(1, n):
        key, slot = keys[at], at
        while slot > 0 and keys[slot - 1] > key:
            keys[slot] = keys[slot - 1]
            slot -= 1
        keys[slot] = key


@njit
def sort_run(keys: IntArray, sorted_keys: IntArray) -> None:
    """Sort keys in place, by the highest digits in which they differ, then each digit's by what is left."""
    n = keys.shape[0]
    rising = 1
    while rising < n and keys[rising - 1] <= keys[rising]:
        rising += 1
    if rising >= n:
        return
    if n <= FEW:
        sort_few(keys, sorted_keys)
        return
    differ = np.uint64(0)
    for other in range(1, n):
        differ |= np.uint64(keys[other] ^ keys[0])
    shift, wanted = 0, DIGIT_BITS
    while wanted > 1 and n >> (wanted + 3) == 0:  # digits that leave about sixteen keys to a group
        wanted -= 1
    while differ >> np.uint64(shift + wanted) != 0:
        shift += 1
    if differ == 0:
        return
    n_groups = 1 << wanted
    places, ends = np.zeros(n_groups, np.int64), np.empty(n_groups, np.int64)
    for other in range(n):
        places[np.int64(keys[other] >> shift) & (n_groups - 1)] += 1
    end: Any = 0
    for group in range(n_groups):
        first = end
        end += places[group]
        places[group], ends[group] = first, end
    for group in range(n_groups):  # each key goes to the next place of its group, and the key that was there goes on
        while places[group] < ends[group]:
            key = keys[places[group]]
            at: Any = np.int64(key >> shift) & (n_groups - 1)
            while at != group:
                moved = keys[places[at]]
                keys[places[at]] = key
                places[at] += 1
                key = moved
                at = np.int64(key >> shift) & (n_groups - 1)
            keys[places[group]] = key
            places[group] += 1
    if shift > 0:
        for group in range(n_groups):
            first = ends[group - 1] if group > 0 else 0
            sort_run(keys[first : ends[group]], sorted_keys)


@njit
def sort_keys(ends: IntArray, keys: IntArray) -> None:
    """Sort the keys of each bucket."""
    room = np.empty(FEW, keys.dtype)
    first: Any = 0
    for bucket in range(ends.shape[0]):
        last = np.int64(ends[bucket])
        if last - first > 1:
            sort_run(keys[first:last], room)
        first = last


@njit
def sort_ties(
    codes: IntArray, bits: IntArray, n_key: Any, n_low: Any, n_position: Any, ends: IntArray, keys: IntArray
) -> None:
    """Sort the rows of each bucket that are equal in the levels of a key by the levels that are not in it.

    From the last levels to the first, as many at a time as fit a key beside the place that the time before has given.
    """
    n_levels, room, position = bits.shape[0], np.empty(FEW, np.uint64), np.uint64(n_position)
    first: Any = 0
    for bucket in range(ends.shape[0]):
        bucket_end = np.int64(ends[bucket])
        while first < bucket_end:
            prefix, last = keys[first] >> position, first + 1
            while last < bucket_end and keys[last] >> position == prefix:
                last += 1
            n = last - first
            if n > 1:
                packed, rows, end = keys[first:last], np.empty((2, n), np.int64), n_levels
                for at in range(n):
                    rows[0, at] = np.int64(low_bits(packed[at], n_position))
                while end > n_key:
                    begin = end
                    n_bits: Any = 0
                    while begin > n_key and n_bits + bits[begin - 1] <= 64 - n_position:
                        begin -= 1
                        n_bits += bits[begin]
                    for at in range(n):
                        rows[1, at] = rows[0, at]
                        packed[at] = (pack_row(codes, bits, rows[0, at], begin, end) << position) | np.uint64(at)
                    sort_run(packed, room)
                    for at in range(n):
                        rows[0, at] = rows[1, np.int64(low_bits(packed[at], n_position))]
                    end = begin
                for at in range(n):
                    packed[at] = (prefix << position) | np.uint64(rows[0, at])
            first = last


@njit
def drop_repeats(
    codes: IntArray,
    bits: IntArray,
    n_key: Any,
    n_low: Any,
    n_position: Any,
    ends: IntArray,
    keys: IntArray,
    n_forks: IntArray,
) -> None:
    """Move sorted keys together so that each row is there once; `ends` says where the buckets end then.

    ``n_forks[level]`` grows by the items that leave the one before them at this level: each opens one edge there and
    on every later level.
    """
    n_levels, limits = bits.shape[0], fork_limits(bits, n_key)
    before, row_before = np.uint64(0), np.int64(0)
    n: Any = 0
    first: Any = 0
    for bucket in range(ends.shape[0]):
        last = np.int64(ends[bucket])
        base = np.uint64(bucket) << np.uint64(n_low) if n_low < 64 else np.uint64(0)
        for at in range(first, last):
            key = np.uint64(keys[at])
            prefix, row = base | (key >> np.uint64(n_position)), np.int64(low_bits(key, n_position))
            level = fork_level(codes, limits, prefix, before, row, row_before) if n > 0 else 0
            if level == n_levels:
                continue
            n_forks[level] += 1
            keys[n] = key
            n += 1
            before, row_before = prefix, row
        first = last
        ends[bucket] = n
