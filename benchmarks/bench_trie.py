"""Building the trie, and one decode step: which codes may follow each of 320 prefixes."""

import gc
import time
import tracemalloc
import warnings

import numpy as np
import pytest
import torch

import semid
from benchmarks.catalogues import clustered_codes
from benchmarks.rivals import DictTrie, MarisaTrie
from benchmarks.rivals_select import PaddedTrie
from benchmarks.side_by_side import side_by_side
from semid.kernels import available, use_backend

SIZES = (256, 256, 256, 256)
N_ROWS = 320  # 16 requests with 20 beams
N_SEARCHES = 8
SHAPES = pytest.mark.parametrize("sizes", [(256,) * 4, (8192,) * 3, (2048,) * 8], ids=["4x256", "3x8192", "8x2048"])


@pytest.fixture(scope="module")
def n_items(request):
    """A catalogue of a realistic size when measuring, a small one when the body runs as a test."""
    return 100_000 if request.config.getoption("benchmark_enable") else 2_000


@pytest.fixture(scope="module")
def n_million(request):
    """A million items when measuring."""
    return 1_000_000 if request.config.getoption("benchmark_enable") else 2_000


@pytest.fixture(scope="module")
def million(n_million):
    return clustered_codes(n_million, SIZES)


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


def on_each(call):
    return {f"semid ({name})": on(name, call) for name in backends()}


def without_garbage_collector(call):
    """Return the call as somebody would tune it who builds millions of dicts, none of which is garbage."""

    def run():
        gc.disable()
        try:
            return call()
        finally:
            gc.enable()

    return run


@pytest.mark.benchmark(group="trie: build from unsorted codes")
@SHAPES
def test_bench_build(benchmark, n_million, sizes):
    """From codes in any order to an index that answers."""
    codes = clustered_codes(n_million, sizes)
    calls = on_each(lambda: semid.Trie.from_codes(codes, codebook_sizes=sizes))
    calls |= {"dict": lambda: DictTrie(codes), "marisa-trie": lambda: MarisaTrie(codes, sizes[0])}
    calls |= {
        f"{name}, no garbage collector": without_garbage_collector(calls[name]) for name in ("dict", "marisa-trie")
    }
    expected = codes[np.lexsort(codes.T[::-1])]
    for name in backends():
        trie = calls[f"semid ({name})"]()
        assert np.array_equal(trie.codes_of(np.arange(trie.n_items)), expected)
    assert np.array_equal(calls["dict"]().rows(), expected)
    assert np.array_equal(calls["marisa-trie"]().rows(), expected)
    seconds = side_by_side(calls, rounds=1 if benchmark.disabled else 3, warmup=0, clock=time.process_time)
    benchmark.extra_info |= {"n_items": len(codes), "clock": "CPU", "seconds": seconds}
    benchmark.pedantic(next(iter(calls.values())), rounds=1 if benchmark.disabled else 9)


@pytest.mark.benchmark(group="trie: build from unsorted codes, ten million items")
def test_bench_build_ten_million(benchmark, n_million):
    """Ten times as many, beside the sort alone that other indexes need; dicts would take several GB and a minute."""
    codes = clustered_codes(10 * n_million, SIZES)
    calls = on_each(lambda: semid.Trie.from_codes(codes, codebook_sizes=SIZES))
    calls |= {"numpy.lexsort of the codes": lambda: np.lexsort(codes.T[::-1])}
    expected = codes[calls["numpy.lexsort of the codes"]()]
    for name in backends():
        trie = calls[f"semid ({name})"]()
        assert np.array_equal(trie.codes_of(np.arange(trie.n_items)), expected)
    seconds = side_by_side(calls, rounds=1 if benchmark.disabled else 3, warmup=0, clock=time.process_time)
    benchmark.extra_info |= {"n_items": len(codes), "clock": "CPU", "seconds": seconds}
    benchmark.pedantic(next(iter(calls.values())), rounds=1 if benchmark.disabled else 3)


@pytest.mark.benchmark(group="trie: build from sorted codes")
@SHAPES
def test_bench_build_sorted(benchmark, n_million, sizes):
    """Beside an index of dense tables and child starts, which STATIC takes sorted codes for too.

    It is as lean as NumPy allows: each level is one pass of a few array operations. STATIC itself is not run here.
    """
    if benchmark.disabled:
        sizes = tuple(min(size, 256) for size in sizes)  # two dense levels of 8192 codes take 268 MB
    codes = clustered_codes(n_million, sizes)
    codes = codes[np.lexsort(codes.T[::-1])]
    calls = on_each(lambda: semid.Trie.from_codes(codes, codebook_sizes=sizes))
    calls |= {"dense tables and child starts (NumPy)": lambda: PaddedTrie(codes, sizes[0], is_sorted=True)}
    n_nodes = [len(level.codes) - 1 for level in calls["dense tables and child starts (NumPy)"]().levels]
    trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    assert n_nodes == [len(np.unique(trie.walk(codes[:, : depth + 1]))) for depth in range(trie.n_levels)]
    seconds = side_by_side(calls, rounds=1 if benchmark.disabled else 9, clock=time.process_time)
    benchmark.extra_info |= {"n_items": len(codes), "clock": "CPU", "seconds": seconds}
    benchmark.pedantic(next(iter(calls.values())), rounds=1 if benchmark.disabled else 9)


@pytest.mark.benchmark(group="trie: children of 320 prefixes")
@pytest.mark.parametrize("depth", range(4))
def test_bench_children(benchmark, codes, depth):
    """One decode step of 320 beams: from the codes generated so far to the codes allowed next."""
    trie, rivals = semid.Trie.from_codes(codes, codebook_sizes=SIZES), (DictTrie(codes), MarisaTrie(codes, SIZES[0]))
    prefixes = np.ascontiguousarray(codes[np.random.default_rng(1).integers(0, len(codes), N_ROWS), :depth])

    def step():
        return trie.allowed(trie.walk(prefixes), depth=depth)

    calls = on_each(step)
    calls |= {"dict": lambda: rivals[0].allowed(prefixes), "marisa-trie": lambda: rivals[1].allowed(prefixes)}
    expected = [sorted(allowed) for allowed in calls["dict"]()]  # a dict keeps the order of insertion
    assert calls["marisa-trie"]() == expected
    for name in backends():
        row_starts, flat = calls[f"semid ({name})"]()
        assert [part.tolist() for part in np.split(flat, row_starts[1:-1])] == expected
    seconds = side_by_side(calls, rounds=1 if benchmark.disabled else 61, clock=time.process_time)
    benchmark.extra_info |= {"n_items": len(codes), "clock": "CPU", "seconds": seconds}
    benchmark(step)


def searched(trie, batch, beams, seed=0):
    """Yield the arguments of each step of a beam search with random scores, as a model would give them."""
    rng = np.random.default_rng(seed)
    scores, nodes = np.zeros((batch, 1), np.float32), np.zeros((batch, 1), np.int64)
    for depth in range(trie.n_levels):
        logits = 2 * rng.standard_normal((batch, nodes.shape[1], trie.codebook_sizes[depth]), dtype=np.float32)
        log_probs = torch.from_numpy(logits).log_softmax(-1).numpy()
        yield depth, log_probs, scores, nodes
        scores, _, _, nodes = trie.select(log_probs, scores, nodes, depth=depth, k=beams)


def step_of(million, batch, beams, depth):
    """Return a trie, a padded one, the arguments of a step on the first, and those on the second, as tensors."""
    trie, padded = semid.Trie.from_codes(million, codebook_sizes=SIZES), PaddedTrie(million, SIZES[0])
    _, log_probs, start, nodes = next(step for step in searched(trie, batch, beams) if step[0] == depth)
    # The padded trie counts the nodes of a level; a trie's node is the number of its prefix or its first rank.
    order = np.unique(trie.walk(million[:, :depth]))
    tensors = [torch.from_numpy(a) for a in (log_probs, start, np.searchsorted(order, nodes))]
    return trie, padded, (log_probs, start, nodes), tensors


@pytest.mark.benchmark(group="trie: select")
@pytest.mark.parametrize("shape", [(16, 20), (32, 50)], ids=["320 rows", "1600 rows"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_bench_select(benchmark, million, shape, depth):
    """Best beams of one step, call and allocations included, and the same with seen items and half a catalogue dead."""
    (batch, beams), rng = shape, np.random.default_rng(1)
    trie, padded, arrays, tensors = step_of(million, batch, beams, depth)
    live = trie.restrict(rng.random(len(million)) < 0.5)
    seen = trie.rank_lists([rng.integers(0, len(million), 1000) for _ in range(batch)])

    def plain():
        return trie.select(*arrays, depth=depth, k=beams)

    def filtered():
        return live.select(*arrays, depth=depth, k=beams, exclude=seen)

    calls = {"semid": plain, "padded gather (torch)": lambda: padded.select(*tensors, depth, beams)}
    calls |= {"semid, 1000 seen items each and half of the items dead": filtered}
    calls |= {"semid (numba)": on("numba", plain), "semid (numba), seen and dead items": on("numba", filtered)}
    if (arrays[2] >= 0).all():
        assert np.array_equal(calls["semid"]().scores, calls["padded gather (torch)"]()[0].numpy())
    rounds = 1 if benchmark.disabled else 61
    seconds = side_by_side(calls, rounds=rounds, clock=time.process_time)
    benchmark.extra_info |= {"n_items": len(million), "clock": "CPU", "seconds": seconds}
    benchmark(calls["semid"])


@pytest.mark.benchmark(group="trie: select, compiled rival")
@pytest.mark.parametrize("shape", [(16, 20), (32, 50)], ids=["320 rows", "1600 rows"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_bench_select_compiled(benchmark, million, shape, depth):
    """The same beside the padded gather as torch compiles it: apart, since its code drives others out of the caches."""
    if benchmark.disabled:
        pytest.skip("compiling takes half a minute")
    (batch, beams) = shape
    trie, padded, arrays, tensors = step_of(million, batch, beams, depth)
    compiled = torch.compile(padded.select, dynamic=False, fullgraph=True)
    calls = {
        "semid": lambda: trie.select(*arrays, depth=depth, k=beams),
        "padded gather (torch, compiled)": lambda: compiled(*tensors, depth, beams),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of itself
        compiled(*tensors, depth, beams)
    if (arrays[2] >= 0).all():
        np.testing.assert_allclose(calls["semid"]().scores, compiled(*tensors, depth, beams)[0].numpy(), rtol=1e-6)
    seconds = side_by_side(calls, rounds=61, clock=time.process_time)
    benchmark.extra_info |= {"n_items": len(million), "clock": "CPU", "seconds": seconds}
    benchmark(calls["semid"])


@pytest.mark.benchmark(group="trie: mask 320 rows")
@pytest.mark.parametrize("vocabulary", [33_152, 151_936])
def test_bench_mask(benchmark, million, vocabulary):
    """In place, at depth 1, beside filling the same memory and beside Hugging Face's processor over a dict."""
    from transformers import PrefixConstrainedLogitsProcessor

    if benchmark.disabled:
        vocabulary = 600
    trie, rival = semid.Trie.from_codes(million, codebook_sizes=SIZES), DictTrie(million)
    prefixes = million[np.random.default_rng(1).integers(0, len(million), N_ROWS), :1].astype(np.int64)
    nodes, tokens = trie.walk(prefixes), np.arange(vocabulary - 256, vocabulary)
    scores = torch.zeros(N_ROWS, vocabulary)
    array, ids = scores.numpy(), torch.from_numpy(prefixes)

    def allowed(_, row):
        return [vocabulary - 256 + code for code in rival.allowed(row.numpy()[None])[0]]

    def mask():
        trie.mask_inplace(array, nodes, depth=1, tokens=tokens)

    hugging_face = PrefixConstrainedLogitsProcessor(allowed, num_beams=1)
    calls = {
        "semid": mask,
        "semid (numba)": on("numba", mask),
        "fill a warm tensor": lambda: scores.fill_(-torch.inf),
        "Hugging Face, dict": lambda: hugging_face(ids, scores),
    }
    calls["semid"]()
    assert torch.equal(hugging_face(ids, torch.zeros_like(scores)), scores)
    rounds = 1 if benchmark.disabled else 15
    seconds = side_by_side(calls, rounds=rounds, clock=time.process_time)
    benchmark.extra_info |= {"n_items": len(million), "clock": "CPU", "seconds": seconds}
    benchmark(calls["semid"])


@pytest.mark.benchmark(group="trie: memory")
@SHAPES
def test_bench_memory(benchmark, n_million, sizes):
    """Bytes of the arrays, and the most that building allocates above its input."""
    codes = clustered_codes(n_million, sizes)
    semid.Trie.from_codes(codes[:1000], codebook_sizes=sizes)  # what is imported and compiled is not counted
    tracemalloc.start()
    trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert trie.n_items == n_million
    bytes_per_item = {"bytes per item": trie.nbytes / n_million, "most while building": peak / n_million}
    benchmark.group = f"trie: memory, {len(sizes)} levels of {sizes[0]} codes"
    benchmark.extra_info |= {"n_items": n_million, "measured": bytes_per_item}
    benchmark.pedantic(lambda: semid.Trie.from_codes(codes, codebook_sizes=sizes), rounds=3)


@pytest.mark.benchmark(group="trie: growth, all steps of 320 beams")
@pytest.mark.parametrize("share", [0.01, 0.1, 1.0, 10.0])
def test_bench_growth(benchmark, n_million, share):
    """The cost of a search's steps against the number of items."""
    codes = clustered_codes(int(n_million * share), SIZES)
    trie = semid.Trie.from_codes(codes, codebook_sizes=SIZES)
    # Searches that differ: a processor remembers the branches of one that is repeated, as no server repeats it.
    steps = [step for seed in range(N_SEARCHES) for step in searched(trie, 16, 20, seed)]

    def search():
        return [trie.select(a, b, c, depth=depth, k=20) for depth, a, b, c in steps]

    rounds = 1 if benchmark.disabled else 61
    calls = on_each(search)
    seconds = side_by_side(calls, rounds=rounds, clock=time.process_time)
    seconds = {name: [time_ / N_SEARCHES for time_ in times] for name, times in seconds.items()}
    benchmark.extra_info |= {"n_items": len(codes), "clock": "CPU", "seconds": seconds}
    benchmark(search)
