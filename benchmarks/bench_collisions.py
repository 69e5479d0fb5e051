"""Resolver: what unique IDs cost in time, memory and distortion, beside other ways to make them unique."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import semid
from benchmarks.embeddings import clustered_embeddings
from benchmarks.rivals_collisions import RIVALS, least_matching
from benchmarks.side_by_side import side_by_side
from semid.collisions.candidates import CandidateLists, assign

MINILM = ("amazon_beauty_small", "amazon_beauty", "amazon_industrial")
N_CANDIDATES = 16


@pytest.fixture(scope="module")
def full_size(request):
    """Whether to measure; otherwise the bodies run small, as tests."""
    return request.config.getoption("benchmark_enable")


def mean_distortion(X, codes, quantizer):
    total = 0.0
    for first in range(0, len(X), 8192):
        rows = slice(first, first + 8192)
        total += float(np.square(X[rows] - quantizer.decode(codes[rows]), dtype=np.float64).sum())
    return total / len(X)


def listed(X, quantizer):
    """Return candidate lists of all items, as the resolver makes them at first."""
    lists = CandidateLists(
        quantizer, X, np.zeros(len(X), np.int64), n_groups=1, capacity=1,
        taken=np.empty((0, quantizer.n_levels), np.uint8), taken_groups=np.empty(0, np.int64),
    )  # fmt: skip
    lists.extend(np.arange(len(X)), N_CANDIDATES)
    return lists


def solve(lists):
    weights = np.ones(len(lists.start))
    return assign(lists.start, lists.stop, lists.column, lists.cost, lists.room, weights)


@pytest.mark.benchmark(group="collisions: 0 left")
def test_bench_resolve(benchmark, request, full_size):
    """Unique IDs cost at most 1 % over a beam search that collides, and no more than greedy codes."""
    n_items, dim, size = (request.config.getoption("--items"), 384, 256) if full_size else (1_000, 32, 32)
    X = clustered_embeddings(n_items, dim=dim)
    quantizer = semid.ResidualKMeans(3, size).fit(X)
    found = {}

    def run():
        found["semid"] = semid.resolve(quantizer, X)

    options = {"rounds": 1, "warmup": 0, "clock": time.process_time}
    seconds = benchmark.pedantic(side_by_side, ({"semid": run},), options, rounds=1, iterations=1)
    result = found["semid"]
    assert len(np.unique(result.codes, axis=0)) == n_items
    beam = mean_distortion(X, quantizer.encode(X, beam=8), quantizer)
    if full_size:
        assert result.distortion_after <= min(1.01 * beam, result.distortion_before)
    benchmark.extra_info |= {
        "clock": "CPU", "n_items": n_items, "seconds": seconds,
        "results": {"semid": {
            "collided": result.n_collisions_before / n_items,
            "over_greedy": result.distortion_after / result.distortion_before - 1,
            "over_beam": result.distortion_after / beam - 1,
            "gap": result.optimality_gap,
        }},
    }  # fmt: skip


@pytest.mark.benchmark(group="collisions: exact assignment")
def test_bench_solver(benchmark, full_size):
    """The solver and scipy's on the same graph, which has a full matching: items that find no place stay out."""
    n_items, dim, size = (20_000, 384, 256) if full_size else (500, 32, 32)
    X = clustered_embeddings(n_items, dim=dim)
    lists = listed(X, semid.ResidualKMeans(3, size).fit(X))
    placed = np.flatnonzero(solve(lists).choice >= 0)
    entries = np.concatenate([np.arange(lists.start[item], lists.stop[item]) for item in placed])
    stop = np.cumsum(lists.stop[placed] - lists.start[placed])
    start = np.r_[0, stop[:-1]]
    column, cost = lists.column[entries], lists.cost[entries]
    totals = {}

    def ours():
        totals["semid"] = assign(start, stop, column, cost, lists.room, np.ones(len(start))).total

    def scipys():
        totals["scipy"] = least_matching(start, stop, column, cost, len(lists.room))

    calls = {"semid": ours, "scipy min_weight_full_bipartite_matching": scipys}
    options = {"rounds": 3 if full_size else 1, "warmup": 0, "clock": time.process_time, "slow": [list(calls)[1]]}
    seconds = benchmark.pedantic(side_by_side, (calls,), options, rounds=1, iterations=1)
    assert totals["semid"] == pytest.approx(totals["scipy"], rel=1e-6)
    benchmark.extra_info |= {"clock": "CPU", "n_items": len(start), "seconds": seconds}


def catalogue(name, full_size):
    if name == "clustered, 32^3":
        X = clustered_embeddings(20_000 if full_size else 2_000, dim=64)
        return X, semid.ResidualKMeans(3, 32 if full_size else 16).fit(X)
    if "SEMID_DATA" not in os.environ:
        pytest.skip("SEMID_DATA is not set: expected the folder of the data sets")
    X = np.load(Path(os.environ["SEMID_DATA"]) / name / "item_emb_minilm_f16.npy").astype(np.float32)
    X = X if full_size else X[:800]
    return X, semid.ResidualKMeans(3, 256 if full_size else 32).fit(X)


@pytest.mark.benchmark(group="collisions: beside other policies")
@pytest.mark.parametrize("name", [*MINILM, "clustered, 32^3"])
def test_bench_policies(benchmark, full_size, name):
    """Distortion over that of greedy codes, which collide, and the collisions that are left."""
    X, quantizer = catalogue(name, full_size)
    codes = quantizer.encode(X)
    found = {}

    def run(policy, resolve):
        found[policy] = resolve(quantizer, X, codes)

    policies = {"semid": lambda q, X, codes: semid.resolve(q, X, codes).codes} | RIVALS
    calls = {
        policy: lambda policy=policy, resolve=resolve: run(policy, resolve) for policy, resolve in policies.items()
    }
    options = {"rounds": 1, "warmup": 0, "clock": time.process_time}
    seconds = benchmark.pedantic(side_by_side, (calls,), options, rounds=1, iterations=1)
    greedy = mean_distortion(X, codes, quantizer)
    extra = {policy: mean_distortion(X, rows, quantizer) / greedy - 1 for policy, rows in found.items()}
    left = {policy: len(X) - len(np.unique(rows, axis=0)) for policy, rows in found.items()}
    benchmark.extra_info |= {
        "clock": "CPU", "n_items": len(X), "seconds": seconds,
        "results": {policy: {"extra_distortion": extra[policy], "collisions_left": left[policy] / len(X)}
                    for policy in found},
    }  # fmt: skip
    assert left["semid"] == 0
    assert all(left[policy] == 0 for policy in found if "Sinkhorn" not in policy)
    assert extra["semid"] <= min(extra.values()) + 1e-6
    if full_size and name in MINILM:
        assert extra["semid"] <= 0.6 * extra["nearest free leaf in the prefix"]


@pytest.mark.benchmark(group="collisions: append 20 %")
def test_bench_append(benchmark, request, full_size):
    """New items beside published ones: distortion against solving all at once, and the assignment step's speed."""
    n_items, dim, size = (request.config.getoption("--items"), 384, 256) if full_size else (1_000, 32, 32)
    X = clustered_embeddings(n_items, dim=dim)
    quantizer = semid.ResidualKMeans(3, size).fit(X)
    cut = int(0.8 * n_items)
    old = semid.resolve(quantizer, X[:cut]).codes
    new = semid.resolve(quantizer, X[cut:], taken=old).codes
    both = np.concatenate([old, new])
    assert len(np.unique(both, axis=0)) == n_items
    ratio = mean_distortion(X, both, quantizer) / semid.resolve(quantizer, X).distortion_after
    assert ratio <= 1.01
    lists = CandidateLists(
        quantizer, X[cut:], np.zeros(n_items - cut, np.int64), n_groups=1, capacity=1, taken=old,
        taken_groups=np.zeros(cut, np.int64),
    )  # fmt: skip
    lists.extend(np.arange(n_items - cut), N_CANDIDATES)
    options = {"rounds": 3 if full_size else 1, "warmup": 1, "clock": time.process_time}
    calls = {"semid, assignment step": lambda: solve(lists)}
    seconds = benchmark.pedantic(side_by_side, (calls,), options, rounds=1, iterations=1)
    if full_size:
        assert (n_items - cut) / np.median(seconds["semid, assignment step"]) >= 50_000
    results = {"semid, assignment step": {"over_solving_at_once": ratio - 1}}
    benchmark.extra_info |= {"clock": "CPU", "n_items": n_items - cut, "seconds": seconds, "results": results}


MEASURE = """
import json, sys, time
import numpy as np
import semid

path, size, n_refits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
X = np.load(path, mmap_mode="r")
quantizer = semid.ResidualKMeans(3, size).fit(X)
for _ in range(n_refits):
    quantizer.refit(X, semid.resolve(quantizer, X).codes)
semid.resolve(quantizer, X[:2000])
codes = quantizer.encode(X)
begin, cpu = time.perf_counter(), time.process_time()
result = semid.resolve(quantizer, X, codes)
wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
peak = next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
beam = quantizer.encode(X, beam=8)
error = lambda c: sum(float(np.square(X[i:i+8192] - quantizer.decode(c[i:i+8192]), dtype=np.float64).sum())
                      for i in range(0, len(X), 8192)) / len(X)
print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak, "left": result.n_collisions_after,
    "before": result.n_collisions_before / len(X), "distortion": result.distortion_after,
    "over_beam": result.distortion_after / error(beam) - 1,
    "gap": result.gap_over_all_ids, "beyond": result.n_beyond_candidates}))
"""


@pytest.mark.benchmark(group="collisions: memory, candidates and solver")
@pytest.mark.parametrize("n_refits", [0, 1])
def test_bench_large(benchmark, request, full_size, tmp_path, n_refits):
    """A memory-mapped file in a process of its own. The time is wall time, on all cores.

    Distortion over the beam search, peak memory and time are reported, not asserted: at 35 % collisions the least
    distortion there is depends on the codebooks, and `gap` tells how near to it the result is. The time is that of
    one resolution, however often the codebooks were refit on an earlier one.
    """
    n_items, dim, size = (request.config.getoption("--most-items"), 384, 256) if full_size else (3_000, 32, 32)
    path = tmp_path / "X.npy"
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_items, dim))
    clustered_embeddings(n_items, dim=dim, out=out)
    del out
    command = [sys.executable, "-c", MEASURE, str(path), str(size), str(n_refits)]
    measured = json.loads(benchmark.pedantic(subprocess.check_output, (command,), {"text": True}, rounds=1))
    path.unlink()
    assert measured["left"] == 0
    benchmark.extra_info |= {"n_items": n_items, "mebibytes": {"peak": measured["peak"]}, "measured": measured}


@pytest.mark.benchmark(group="collisions: growth")
@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("size", [64, 128, 256])
def test_bench_growth(benchmark, request, full_size, share, size):
    """Time of the assignment against the number of items and, with fewer codes, against the collision rate."""
    most, dim, size = (request.config.getoption("--most-items"), 64, size) if full_size else (2_000, 16, size // 8)
    X = clustered_embeddings(max(int(share * most), 20 * size), dim=dim)
    if len(X) > size**3 // 2:
        pytest.skip(f"{len(X)} items are too many for lists of candidates on {size}^3 IDs")
    quantizer = semid.ResidualKMeans(3, size).fit(X)
    codes = quantizer.encode(X)
    lists = listed(X, quantizer)
    calls = {"semid, assignment": lambda: solve(lists)}
    options = {"rounds": 1, "warmup": 1, "clock": time.process_time}
    seconds = benchmark.pedantic(side_by_side, (calls,), options, rounds=1, iterations=1)
    collided = 1 - len(np.unique(codes, axis=0)) / len(X)
    benchmark.extra_info |= {"clock": "CPU", "n_items": len(X), "seconds": seconds, "collided": collided, "size": size}
