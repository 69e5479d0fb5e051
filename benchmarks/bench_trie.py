"""Building the trie, and one decode step: which codes may follow each of 320 prefixes."""

import numpy as np
import pytest

import semid
from benchmarks.catalogues import clustered_codes
from benchmarks.rivals import DictTrie, MarisaTrie
from benchmarks.side_by_side import side_by_side
from semid.kernels import available, use_backend

SIZES = (256, 256, 256, 256)
N_ROWS = 320  # 16 requests with 20 beams


@pytest.fixture(scope="module")
def n_items(request):
    """A catalogue of a realistic size when measuring, a small one when the body runs as a test."""
    return 100_000 if request.config.getoption("benchmark_enable") else 2_000


@pytest.fixture(scope="module")
def codes(n_items):
    return clustered_codes(n_items, SIZES)


def on(backend, call):
    def run():
        with use_backend(backend):
            return call()

    return run


def backends():
    return [name for name, missing in available().items() if not missing]


@pytest.mark.benchmark(group="trie: build")
def test_bench_build(benchmark, codes):
    """From unsorted codes to an index that answers."""
    rounds = 1 if benchmark.disabled else 9
    calls = {
        "semid": lambda: semid.Trie.from_codes(codes, codebook_sizes=SIZES),
        "dict": lambda: DictTrie(codes),
        "marisa-trie": lambda: MarisaTrie(codes, SIZES[0]),
    }
    leaves = {
        "semid": calls["semid"]().n_items,
        "dict": sum(len(c) for a in calls["dict"]().root.values() for b in a.values() for c in b.values()),
        "marisa-trie": len(calls["marisa-trie"]().trie),
    }
    assert set(leaves.values()) == {len(codes)}
    benchmark.extra_info |= {"n_items": len(codes), "seconds": side_by_side(calls, rounds=rounds, warmup=0)}
    benchmark(calls["semid"])


@pytest.mark.benchmark(group="trie: children of 320 prefixes")
@pytest.mark.parametrize("depth", range(4))
def test_bench_children(benchmark, codes, depth):
    """One decode step of 320 beams: from the codes generated so far to the codes allowed next."""
    trie, rivals = semid.Trie.from_codes(codes, codebook_sizes=SIZES), (DictTrie(codes), MarisaTrie(codes, SIZES[0]))
    prefixes = np.ascontiguousarray(codes[np.random.default_rng(1).integers(0, len(codes), N_ROWS), :depth])

    def step():
        return trie.allowed(trie.walk(prefixes), depth=depth)

    calls = {f"semid ({name})": on(name, step) for name in backends()}
    calls |= {"dict": lambda: rivals[0].allowed(prefixes), "marisa-trie": lambda: rivals[1].allowed(prefixes)}
    expected = [sorted(allowed) for allowed in calls["dict"]()]  # a dict keeps the order of insertion
    assert calls["marisa-trie"]() == expected
    for name in backends():
        row_starts, flat = calls[f"semid ({name})"]()
        assert [part.tolist() for part in np.split(flat, row_starts[1:-1])] == expected
    rounds = 1 if benchmark.disabled else 61
    benchmark.extra_info |= {"n_items": len(codes), "seconds": side_by_side(calls, rounds=rounds)}
    benchmark(step)
