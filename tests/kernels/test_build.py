"""Every kernel of building: the same bits from C and from Numba, for every type of codes, keys and pointers."""

import numpy as np
import pytest

from semid import kernels
from semid.trie import build as sorting
from semid.trie.levels import level_offsets

EXT = kernels.available()["ext"] is None
pytestmark = pytest.mark.skipif(not EXT, reason="the C extension was not built")

# Sizes and rows whose keys are of 2, 4 and 8 bytes, and of 8 with the position of a row that is longer than a key.
SHAPES = [((9, 5, 30), 900), ((300, 300, 300), 900), ((2**31, 50, 5), 900), ((2**20, 9, 2**31, 3, 200), 900)]


def built(codes, sizes, n_explicit, pointer):
    """Return everything that the kernels write, in the order in which building calls them."""
    rows, n_forks = sorting.sort_keys(codes, sizes)
    n_edges = np.cumsum(n_forks)
    node_offsets, code_offsets = level_offsets(n_edges, n_explicit)
    starts, firsts = (np.full(node_offsets[n_explicit + at], -7, pointer) for at in (0, 1))
    child_codes = np.empty(code_offsets[-1], np.min_scalar_type(max(sizes) - 1))
    forks = np.empty((len(sizes) - 1 - n_explicit) * ((rows.n_items + 63) // 64), np.uint64)
    kernels.kernel("fill_levels")(
        *rows, n_explicit, starts, firsts, node_offsets, child_codes, code_offsets, forks
    )  # fmt: skip
    return [rows.ends, rows.keys[: rows.n_items] >> rows.n_position, n_forks, starts, firsts, child_codes, forks]


@pytest.mark.parametrize(("sizes", "n_rows"), SHAPES, ids=str)
@pytest.mark.parametrize("skew", [1, 6])
@pytest.mark.parametrize(
    ("code", "pointer"), [(np.uint16, np.int32), (np.uint32, np.int64), (np.uint64, np.int32), (np.uint8, np.int64)]
)
def test_both_back_ends_build_the_same(rng, sizes, n_rows, skew, code, pointer):
    sizes = tuple(min(size, np.iinfo(code).max + 1) for size in sizes)
    codes = np.stack([(size * rng.random(n_rows) ** skew).astype(code) for size in sizes], axis=1)
    codes = np.concatenate([codes, codes[:100], np.repeat(codes[:1], 200, axis=0)])
    for n_explicit in range(len(sizes)):
        found = {}
        for name in kernels.BACKENDS:
            with kernels.use_backend(name):
                found[name] = built(codes, sizes, n_explicit, pointer)
        assert all((one == two).all() for one, two in zip(*found.values(), strict=True))


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("n_bits", [0, 1, 6, 16])
def test_runs_of_keys_are_sorted(rng, dtype, n_bits):
    """One bucket of each length: those that are compared with each other, and those that are spread over groups."""
    lengths = np.array([0, 1, 2, 63, 64, 65, 200, 3000, 20_000])
    keys = rng.integers(0, 2**n_bits, lengths.sum(), np.uint64).astype(dtype)
    keys += dtype(np.iinfo(dtype).max - 2**n_bits + 1)  # the largest key is among them
    ends = np.cumsum(lengths).astype(np.uint32)
    for name in kernels.BACKENDS:
        mine = keys.copy()
        with kernels.use_backend(name):
            kernels.kernel("sort_keys")(ends, mine)
        parts = zip(np.split(mine, ends[:-1]), np.split(keys, ends[:-1]), strict=True)
        assert all((part == np.sort(other)).all() for part, other in parts)


def test_the_extension_refuses_keys_that_do_not_fit():
    """Lengths, bits and types that would make C read or write outside of an array."""
    codes, bits, ends, keys = (
        np.zeros((5, 2), np.uint8),
        np.array([3, 3]),
        np.zeros(4, np.uint32),
        np.zeros(5, np.uint16),
    )
    good = [codes, bits, 2, 4, 0, ends]
    with kernels.use_backend("ext"):
        count, scatter, sort = (kernels.kernel(name) for name in ("count_keys", "scatter_keys", "sort_keys"))
    count(*good)
    changes = [(1, np.array([3])), (1, np.array([3, 99])), (2, 3), (2, 1), (3, 5), (3, -1), (4, 40), (5, ends[:3])]
    for at, wrong in changes:
        with pytest.raises(TypeError, match="count_keys got arrays of a wrong type or shape: expected lengths"):
            count(*good[:at], wrong, *good[at + 1 :])
    for wrong in (keys[:4], keys.astype(np.uint8)):
        with pytest.raises(TypeError, match="scatter_keys got arrays of a wrong type or shape: expected lengths"):
            scatter(*good, wrong)
    with pytest.raises(TypeError, match="sort_keys got arrays of a wrong type or shape: expected lengths"):
        sort(np.array([1, 9], np.uint32), keys)
    with pytest.raises(TypeError, match="expected 7, got 6"):
        scatter(*good)
