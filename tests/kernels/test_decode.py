"""Every kernel of a decode step: the same bits from C and from Numba, for every type of a trie's arrays."""

import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest

import semid
from semid import kernels

EXT = kernels.available()["ext"] is None
pytestmark = pytest.mark.skipif(not EXT, reason="the C extension was not built")


def on_both(name, arguments, n_out):
    """Run a kernel on both back ends and return the outputs of each, its last arguments, as bytes."""
    found = []
    for backend in kernels.BACKENDS:
        mine = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        with kernels.use_backend(backend):
            kernels.kernel(name)(*mine)
        found.append([out.tobytes() for out in mine[len(mine) - n_out :]])
    return found


def step_arrays(rng, pointer, code, *, restricted, items_per_edge=8, sizes=(5, 40, 7, 30)):
    """A trie with dense, sparse and flat levels, in the types asked for, and nodes at each depth, -1 among them."""
    codes = np.unique(np.stack([rng.integers(0, size, 3000) for size in sizes], axis=1), axis=0)
    full = np.stack(np.meshgrid(np.arange(2), np.arange(40), np.arange(7), indexing="ij"), -1).reshape(-1, 3)
    full = np.concatenate([full, rng.integers(0, 30, (len(full), 1))], axis=1)
    with mock.patch("semid.trie.build.ITEMS_PER_EDGE", items_per_edge):
        trie = semid.Trie.from_codes(np.unique(np.concatenate([codes, full]), axis=0), codebook_sizes=sizes)
    if restricted:
        trie = trie.restrict(rng.random(trie.n_ranks) < 0.4)
    starts, firsts, child_codes, *rest = (*trie._levels, *trie._alive)
    arrays = [starts.astype(pointer), firsts.astype(pointer), child_codes.astype(code), *rest]
    nodes = [trie.walk(trie.codes_of(rng.integers(0, trie.n_ranks, 24))[:, :depth]) for depth in range(trie.n_levels)]
    return trie, arrays, nodes


TYPES = pytest.mark.parametrize(
    ("pointer", "code"), [(p, c) for p in (np.int32, np.int64) for c in (np.uint8, np.uint16, np.uint32)]
)
LAYOUTS = pytest.mark.parametrize("items_per_edge", [8, 10**9], ids=["explicit", "flat"])  # flat: crowded nodes
RESTRICTED = pytest.mark.parametrize("restricted", [False, True], ids=["all", "restricted"])


@TYPES
@RESTRICTED
@LAYOUTS
def test_children_ranges_and_masks(rng, pointer, code, restricted, items_per_edge):
    trie, arrays, nodes = step_arrays(rng, pointer, code, restricted=restricted, items_per_edge=items_per_edge)
    for depth in range(trie.n_levels):
        size, at = trie.codebook_sizes[depth], nodes[depth]
        room = np.zeros(size, code)
        one, two = on_both("ranges", [*arrays, depth, at, np.empty((len(at), 2), np.int64)], 1)
        assert one == two
        row_starts = np.zeros(len(at) + 1, np.int64)
        one, two = on_both("count_children", [*arrays, depth, at, room, row_starts], 1)
        assert one == two
        row_starts = np.frombuffer(one[0], np.int64)
        one, two = on_both("gather_children", [*arrays, depth, at, row_starts, np.zeros(row_starts[-1], code)], 1)
        assert one == two and row_starts[-1] > 0
        tokens = rng.permutation(size + 37)[:size]
        bitmask = rng.integers(-9, 9, (len(at), 3), dtype=np.int32)
        one, two = on_both("fill_bitmask", [*arrays, depth, at, tokens, bitmask, room], 2)
        assert one[0] == two[0]
        for dtype in (np.float32, np.float64, np.uint16):
            scores = (50 * rng.standard_normal((len(at), size + 37))).astype(np.int64).astype(dtype)
            neg_inf = dtype(0xFF80 if dtype == np.uint16 else -np.inf)
            arguments = [*arrays, depth, at, tokens, neg_inf, scores, room, np.zeros(size, dtype)]
            one, two = on_both("mask_inplace", arguments, 3)
            assert one[0] == two[0]


@TYPES
@RESTRICTED
@LAYOUTS
@pytest.mark.parametrize("k", [1, 8, 150])
def test_selections(rng, pointer, code, restricted, items_per_edge, k):
    """Few distinct scores, so that ties decide; both zeros, infinities and NaN; excluded ranks and candidates."""
    trie, arrays, nodes = step_arrays(rng, pointer, code, restricted=restricted, items_per_edge=items_per_edge)
    for depth in range(trie.n_levels):
        at, size = nodes[depth].reshape(3, 8), trie.codebook_sizes[depth]
        for special in (False, True):
            log_probs = -rng.integers(0, 5, (3, 8, size)).astype(np.float32)
            start = -rng.integers(0, 3, (3, 8)).astype(np.float32)
            if special:
                log_probs += rng.standard_normal((3, 8, size), dtype=np.float32)
                log_probs[rng.random(log_probs.shape) < 0.2] = -np.inf
                log_probs[rng.random(log_probs.shape) < 0.1] = np.nan
                log_probs[:, 2, :3], start[0, 0] = np.inf, np.nan
            for listed in (False, True):
                lists = trie.rank_lists([rng.integers(0, trie.n_ranks, 900 if listed else 0), [], [0]])
                allowed = trie.rank_lists([rng.integers(0, trie.n_ranks, 300), None, None] if listed else [None] * 3)
                arguments = [
                    *arrays,
                    depth,
                    log_probs,
                    start,
                    at,
                    *lists[:2],
                    *allowed[:3],
                    np.empty((3, k), np.float32),
                ]
                one, two = on_both("select", [*arguments, *np.empty((3, 3, k), np.int64)], 4)
                assert one == two


def test_a_wide_mask_is_written_around_the_caches(rng):
    """More bytes than the caches hold, rows that begin in the middle of a vector, and a width with a remainder."""
    trie, arrays, nodes = step_arrays(rng, np.int32, np.uint8, restricted=False)
    for dtype, width in ((np.float32, 350_001), (np.uint16, 700_003)):
        scores = rng.integers(1, 9, (24, width)).astype(dtype)
        assert scores.nbytes > 1 << 25
        tokens, neg_inf = rng.permutation(width)[:40], dtype(7)
        with kernels.use_backend("ext"):
            room, kept = np.zeros(40, np.uint8), np.zeros(40, dtype)
            expected = np.full_like(scores, neg_inf)
            for row, node in enumerate(nodes[1]):
                kept_tokens = tokens[trie.allowed(np.array([node]), depth=1)[1]]
                expected[row, kept_tokens] = scores[row, kept_tokens]
            kernels.kernel("mask_inplace")(*arrays, 1, nodes[1], tokens, neg_inf, scores, room, kept)
        assert (scores == expected).all()


def test_a_server_starts_without_numba(tmp_path):
    """Building and loading, every decode step, the processor: nothing imports Numba, so nothing waits for it."""
    path = tmp_path / "trie.safetensors"
    semid.Trie.from_codes([[0, 1, 2], [0, 2, 1], [2, 0, 0]]).save(path)
    code = """
import sys
import numpy as np, torch
import semid
trie = semid.Trie.load(sys.argv[1], mmap=True)
assert trie == semid.Trie.from_codes([[2, 0, 0], [0, 1, 2], [0, 2, 1]])
zeros = np.zeros((1, 1), np.int64)
for view in (trie, trie.restrict([0, 1])):
    view.select(np.zeros((1, 1, 3), np.float32), zeros, zeros, depth=0, k=2, exclude=[[1]], candidates=[[0, 1]])
    view.mask_inplace(np.zeros((1, 9), np.float32), [0], depth=0, tokens=[3, 4, 5])
    view.fill_bitmask(np.zeros((1, 1), np.int32), [0], depth=0, tokens=[3, 4, 5])
    assert view.children((0,)).tolist() == [1, 2] and view.prefix_range((0,)) == range(0, 2)
vocab = semid.SidVocabulary.from_token_ids([[0, 1, 2], [3, 4, 5], [6, 7, 8]], eos_token_id=9)
semid.SidLogitsProcessor(trie, vocab, prompt_len=1)(torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 10))
assert 'numba' not in sys.modules
"""
    environment = os.environ | {"SEMID_BACKEND": "ext"}
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=environment)
