"""Equal scores: the lower beam wins, then the lower code, on both back ends, whatever a request may reach."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import select_oracle

import semid
from semid import kernels
from tests.strategies import SHARED_FIXTURE, tries

BACKENDS = [name for name in kernels.BACKENDS if kernels.available()[name] is None]
FEW_SCORES = np.array([0.0, -0.0, -1.0, -1.0, -2.5, -np.inf], np.float32)


def select(backend, trie, log_probs, start, nodes, **options):
    with kernels.use_backend(backend):
        return trie.select(log_probs, start, nodes, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(SHARED_FIXTURE, max_examples=200)
@given(case=tries(), data=st.data())
def test_every_request_equals_brute_force(backend, case, data):
    """Few values, most of them equal, at every depth; the request excludes, is restricted, or lists candidates."""
    codes, sizes, build = case
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    kind = data.draw(st.sampled_from(["none", "exclude", "restrict", "candidates", "all"]))
    trie, n_items = build(), len(codes)
    rows = sorted(map(tuple, codes.tolist()))
    gone = set(np.flatnonzero(rng.random(n_items) < rng.choice([0.1, 0.5, 0.9])).tolist()) if kind != "none" else set()
    options = {}
    if kind in {"exclude", "all"}:
        options["exclude"] = [sorted(gone)]
    if kind == "candidates":
        options["candidates"] = [sorted(set(range(n_items)) - gone)]
    if kind in {"restrict", "all"}:
        dead = set(np.flatnonzero(rng.random(n_items) < 0.5).tolist()) if kind == "all" else gone
        trie = trie.restrict(sorted(set(range(n_items)) - dead))
        gone = gone | dead
    depth = data.draw(st.integers(0, len(sizes) - 1))
    beams = data.draw(st.integers(1, 4))
    prefixes = [rows[rng.integers(n_items)][:depth] for _ in range(beams)]
    log_probs = rng.choice(FEW_SCORES, (1, beams, sizes[depth])).astype(np.float32)
    start = rng.choice(FEW_SCORES[:4], (1, beams)).astype(np.float32)
    k = data.draw(st.sampled_from([1, 2, 3, 10, 40]))
    nodes = trie.walk(np.array(prefixes, np.int64).reshape(beams, depth))[None]
    found = select(backend, trie, log_probs, start, nodes, depth=depth, k=k, **options)
    alive = [None if node < 0 else prefix for node, prefix in zip(nodes[0].tolist(), prefixes, strict=True)]
    expected = select_oracle(codes, alive, log_probs[0], start[0], len(codes) * beams, exclude=gone)
    expected = [one for one in expected if one[0] > -np.inf][:k]
    n = len(expected)
    got = list(zip(found.scores[0, :n], found.rows[0, :n].tolist(), found.codes[0, :n].tolist(), strict=True))
    assert [one[:3] for one in expected] == got
    assert (found.nodes[0, n:] == -1).all()


@pytest.mark.parametrize("filtered", ["none", "exclude", "restrict"])
def test_wide_levels_of_few_scores(rng, filtered):
    """More equal scores than the room for keys: what is cut away must be what comes last."""
    codes = np.stack(np.meshgrid(np.arange(300), np.arange(3), indexing="ij"), -1).reshape(-1, 2)
    trie, options = semid.Trie.from_codes(codes), {}
    for trial in range(60):
        gone = np.flatnonzero(rng.random(len(codes)) < rng.choice([0.0, 0.3, 0.8, 0.97]))
        one = trie
        if filtered == "exclude":
            options = {"exclude": [gone]}
        elif filtered == "restrict":
            one = trie.restrict(np.setdiff1d(np.arange(len(codes)), gone))
        else:
            gone = gone[:0]
        values = rng.choice(FEW_SCORES[: 2 + trial % 4], (1, 1, 300)).astype(np.float32)
        k = int(rng.choice([1, 2, 10, 50, 300]))
        start, nodes = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int64)
        best = select_oracle(codes, [()], values[0], start[0], k, exclude=gone.tolist())
        expected = [code for score, _, code, _ in best if score > -np.inf]
        for backend in BACKENDS:
            found = select(backend, one, values, start, nodes, depth=0, k=k, **options)
            assert found.codes[0, : len(expected)].tolist() == expected
            assert (found.nodes[0, len(expected) :] == -1).all()
