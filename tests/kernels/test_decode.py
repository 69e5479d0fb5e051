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
        for dtype in (np.uint32, np.uint64, np.uint16):
            for share in (0.3, 1.0):  # of scores that are minus infinity before
                scores = np.where(rng.random((len(at), size + 37)) < share, 5, rng.integers(0, 99, size + 37))
                room_for = room, np.zeros(size, dtype), np.zeros(len(at), np.uint8)
                for lost_token in (-1, 3):
                    arguments = [*arrays, depth, at, tokens, lost_token, dtype(5), scores.astype(dtype), *room_for]
                    one, two = on_both("mask_inplace", arguments, 4)
                    assert one[0] == two[0] and one[3] == two[3]


@TYPES
@RESTRICTED
@LAYOUTS
def test_nodes_of_tokens(rng, pointer, code, restricted, items_per_edge):
    """Tokens of the level, of other levels and of none, behind a prompt of three, with holes in a level's range."""
    trie, arrays, _ = step_arrays(rng, pointer, code, restricted=restricted, items_per_edge=items_per_edge)
    tokens = [10 + 100 * level + rng.permutation(2 * size)[:size] for level, size in enumerate(trie.codebook_sizes)]
    vocab = semid.SidVocabulary.from_token_ids(tokens)
    codes = trie.codes_of(rng.integers(0, trie.n_ranks, 60))
    for depth in range(trie.n_levels + 1):
        rows = vocab.to_tokens(codes)[:, :depth]
        strange = rng.random(rows.shape) < 0.1
        rows[strange] = rng.choice([-(2**63), -1, 0, 10, 115, 2**63 - 1], strange.sum())
        token_ids = np.concatenate([rng.integers(0, 400, (60, 3)), rows], axis=1)
        arguments = [*arrays, token_ids, 3, *vocab.tables, np.zeros(60, np.int64)]
        one, two = on_both("walk_tokens", arguments, 1)
        assert one == two and one[0] == trie.walk(vocab.to_codes(rows, errors="ignore")).tobytes()


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


@pytest.mark.parametrize("tokens", ["a window", "shuffled window", "anywhere"])
@pytest.mark.parametrize(("dtype", "width"), [(np.uint32, 350_001), (np.uint16, 700_003)])
def test_a_wide_mask_is_written_around_the_caches(rng, dtype, width, tokens):
    """More bytes than the caches hold, rows that begin in the middle of a line, lost rows, and nodes of all codes."""
    trie, arrays, nodes = step_arrays(rng, np.int32, np.uint8, restricted=False)
    at = np.concatenate([nodes[1][:22], [-1, -1]])
    columns = {
        "a window": 1_000 + np.arange(40),
        "shuffled window": 1_000 + rng.permutation(40),
        "anywhere": rng.permutation(width)[:40],
    }[tokens]
    n_children = np.diff(trie.allowed(at, depth=1)[0])
    assert n_children.max() == 40 and n_children.min() == 0
    for lost_token in (-1, 77):
        scores = rng.integers(8, 10, (24, width)).astype(dtype)
        scores[3] = 7
        assert scores.nbytes > 1 << 25
        expected = np.full_like(scores, 7)
        for row, node in enumerate(at):
            kept = columns[trie.allowed(np.array([node]), depth=1)[1]]
            if node < 0 and lost_token >= 0:
                kept = np.array([lost_token])
            expected[row, kept] = scores[row, kept]
        with kernels.use_backend("ext"):
            room, kept, empty = np.zeros(40, np.uint8), np.zeros(40, dtype), np.zeros(24, np.uint8)
            kernels.kernel("mask_inplace")(*arrays, 1, at, columns, lost_token, dtype(7), scores, room, kept, empty)
        assert (scores == expected).all()
        assert (empty == (expected == 7).all(axis=1)).all()


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
