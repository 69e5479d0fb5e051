"""The catalogue: bytes per item, and looking items up in bulk, beside a dict and sorted arrays.

``python -m benchmarks.run benchmarks/bench_catalogue.py --most-items 1000000`` measures it.
"""

import time

import numpy as np
import pytest

import semid
from benchmarks.catalogues import clustered_codes
from benchmarks.rivals_catalogue import DictCatalogue, SortedCatalogue, traced_bytes
from benchmarks.side_by_side import side_by_side

SIZES = (256, 256, 256)
LETTERS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)


def some_ids(kind, n_items):
    """Return random ids: 40-bit integers, or product numbers of ten characters such as B07XJ8C8F5."""
    rng = np.random.default_rng(0)
    if kind == "int":
        return np.unique(rng.integers(0, 2**40, 2 * n_items))[rng.permutation(n_items)].tolist()
    letters = np.concatenate(
        [np.tile(LETTERS[[11, 0]], (2 * n_items, 1)), LETTERS[rng.integers(0, 36, (2 * n_items, 8))]], 1
    )
    texts = np.ascontiguousarray(letters).view("S10").ravel().astype(str)
    return list(dict.fromkeys(texts.tolist()))[:n_items]


@pytest.fixture(scope="module")
def n_items(request):
    return request.config.getoption("--most-items") if request.config.getoption("benchmark_enable") else 2_000


@pytest.fixture(scope="module")
def codes(n_items):
    return clustered_codes(n_items, SIZES)


@pytest.mark.benchmark(group="catalogue: look up")
@pytest.mark.parametrize("call", ["codes_of", "items_of"])
@pytest.mark.parametrize("kind", ["int", "str"])
def test_bench_lookups(benchmark, codes, n_items, kind, call):
    """100,000 items to their codes, or codes to their items; bytes per item beside it.

    What a dict holds is counted by tracemalloc, without the ids themselves; semid's are all arrays and the trie.
    """
    ids = some_ids(kind, n_items)
    built, per_item = {}, {}
    for name, cls in {"dict": DictCatalogue, "sorted arrays": SortedCatalogue}.items():
        built[name], traced = traced_bytes(lambda cls=cls: cls(ids, codes))
        per_item[name] = traced / n_items
    sids = built["semid"] = semid.SemanticIds(ids, codes, codebook_sizes=SIZES)
    assert sids.trie().n_items == n_items
    per_item = {"semid": (sids.nbytes + sids.trie().nbytes) / n_items} | per_item
    keys = sum(array.nbytes for array in sids._contents.keys.arrays().values()) / n_items
    asked = [ids[i] for i in np.random.default_rng(1).permutation(n_items)[:100_000]]
    rows = sids.codes_of(asked)
    for catalogue in built.values():
        np.testing.assert_array_equal(catalogue.codes_of(asked), rows)
        assert catalogue.items_of(rows) == asked
    question = asked if call == "codes_of" else rows
    calls = {name: lambda c=built[name]: getattr(c, call)(question) for name in per_item}
    seconds = side_by_side(calls, rounds=1 if benchmark.disabled else 7, clock=time.process_time)
    benchmark.extra_info |= {
        "n_items": n_items, "n_lookups": len(asked), "clock": "CPU", "seconds": seconds,
        "results": {name: {"bytes_per_item": [size]} for name, size in per_item.items()}, "bytes_per_id": keys,
    }  # fmt: skip
    benchmark(calls["semid"])
