"""Quantizers: the cost of fitting and encoding, and how good the codes are that the cost buys."""

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
from benchmarks.rivals_quantizers import FITS, SLOW_FITS, encoders, missing, use_threads
from benchmarks.side_by_side import side_by_side

N_LEVELS = 3
THREADS = (1, 2)
MINILM = "amazon_beauty/item_emb_minilm_f16.npy"


@pytest.fixture(scope="module")
def full_size(request):
    """Whether to measure; otherwise the bodies run small, as tests."""
    return request.config.getoption("benchmark_enable")


@pytest.fixture(scope="module")
def codebook_size(full_size):
    return 256 if full_size else 16


@pytest.fixture(scope="module", params=["clustered", "MiniLM"])
def X(request, full_size):
    if request.param == "clustered":
        n_items, dim = (request.config.getoption("--items"), 384) if full_size else (1_000, 32)
        return clustered_embeddings(n_items, dim=dim)
    if "SEMID_DATA" not in os.environ:
        pytest.skip("SEMID_DATA is not set: expected the folder of the data sets")
    return np.load(Path(os.environ["SEMID_DATA"]) / MINILM)[: None if full_size else 1_000].astype(np.float32)


@pytest.fixture(scope="module")
def quantizer(X, codebook_size):
    return semid.ResidualKMeans(N_LEVELS, codebook_size).fit(X)


@pytest.fixture(scope="module")
def file_of_embeddings(request, full_size, tmp_path_factory):
    """A .npy file of rows of which the benchmarks read the first ones."""
    n_items, dim = (request.config.getoption("--most-items"), 384) if full_size else (2_000, 32)
    path = tmp_path_factory.mktemp("embeddings") / "X.npy"
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_items, dim))
    clustered_embeddings(n_items, dim=dim, out=out)
    out.flush()
    yield path
    path.unlink()


def compare(benchmark, calls, *, rounds, n_items, results, slow=()):
    """Measure CPU seconds of the calls round by round and keep them with what each call is worth."""
    options = {"rounds": 1 if benchmark.disabled else rounds, "warmup": 0, "clock": time.process_time, "slow": slow}
    seconds = benchmark.pedantic(side_by_side, (calls,), options, rounds=1, iterations=1)
    benchmark.extra_info |= {"clock": "CPU", "n_items": n_items, "seconds": seconds, "results": results()}


def quality(X, codebooks):
    """Return the report's figures on greedy codes, the same encoder for everybody's codebooks."""
    quantizer = semid.ResidualKMeans.from_codebooks(codebooks)
    measured = semid.report(X, quantizer.encode(X), quantizer, sample=300)
    return {
        "relative_distortion": measured.relative_distortion,
        "perplexity": [level.perplexity for level in measured.levels],
        "collision_rate": measured.collision_rate,
        "neighbor_recall": measured.neighbor_recall,
    }


def blocks(n_rows, size=8192):
    return (slice(first, first + size) for first in range(0, n_rows, size))


def relative_distortion(X, codes, quantizer):
    mean = X.mean(axis=0, dtype=np.float64)
    error = sum(np.square(X[rows] - quantizer.decode(codes[rows]), dtype=np.float64).sum() for rows in blocks(len(X)))
    return float(error / sum(np.square(X[rows] - mean).sum() for rows in blocks(len(X))))


def greedy_oracle(X, codebooks):
    """Return the nearest centroid level by level in float64, and how much farther the second is, relative to |x|^2."""
    codes, margin = np.empty((len(X), len(codebooks)), np.int64), np.full(len(X), np.inf)
    for rows in blocks(len(X)):
        residual = X[rows].astype(np.float64)
        norms = np.square(residual).sum(1)
        for level, book in enumerate(codebooks):
            book = book.astype(np.float64)
            distance = np.square(residual).sum(1)[:, None] - 2 * residual @ book.T + np.square(book).sum(1)
            nearest, second = np.partition(distance, 1, axis=1)[:, :2].T
            margin[rows] = np.minimum(margin[rows], (second - nearest) / norms)
            codes[rows, level] = distance.argmin(1)
            residual -= book[codes[rows, level]]
    return codes, margin


@pytest.mark.benchmark(group="quantizers: fit")
@pytest.mark.parametrize("n_threads", THREADS)
def test_bench_fit(benchmark, X, codebook_size, n_threads):
    """Three codebooks from embeddings. The slow rivals run once, and on one thread only: CPU time is compared."""
    codebooks = {}

    def fit_semid():
        codebooks["semid"] = semid.ResidualKMeans(N_LEVELS, codebook_size).fit(X).codebooks

    def fit_rival(name, fit):
        codebooks[name] = fit(X, N_LEVELS, codebook_size)

    calls = {"semid": fit_semid}
    skipped = []
    for name, (fit, package) in FITS.items():
        if package and missing(package):
            skipped.append(name)
        elif n_threads == 1 or name not in SLOW_FITS:
            calls[name] = lambda name=name, fit=fit: fit_rival(name, fit)
    with use_threads(n_threads):
        if not benchmark.disabled:
            semid.ResidualKMeans(N_LEVELS, codebook_size).fit(X[: 20 * codebook_size])  # compiles
        compare(
            benchmark, calls, rounds=3, n_items=len(X), slow=SLOW_FITS,
            results=lambda: {name: quality(X, books) for name, books in codebooks.items()},
        )  # fmt: skip
    benchmark.extra_info["missing"] = skipped


def check_encoders(benchmark, X, quantizer, calls, n_threads):
    """Compare encoders with the same codebooks by CPU time, distortion and agreement with float64."""
    codes = {}

    def run(name, encode):
        codes[name] = encode(X)

    with use_threads(n_threads):
        compare(
            benchmark, {name: lambda name=name, encode=encode: run(name, encode) for name, encode in calls.items()},
            rounds=3, n_items=len(X),
            results=lambda: {
                name: {"relative_distortion": relative_distortion(X, found, quantizer)} for name, found in codes.items()
            },
        )  # fmt: skip
    return codes


def installed(rivals, skipped):
    for name, (encode, package) in rivals.items():
        if package and missing(package):
            skipped.append(name)
        else:
            yield name, encode


@pytest.mark.benchmark(group="quantizers: encode, greedy")
@pytest.mark.parametrize("n_threads", THREADS)
def test_bench_encode(benchmark, X, quantizer, n_threads):
    """The nearest centroid level by level; all libraries find the same codes but for ties of float32."""
    skipped = []
    calls = {"semid": quantizer.encode}
    calls |= {n: e for n, e in installed(encoders(quantizer.codebooks), skipped) if "ResidualQuantizer" not in n}
    codes = check_encoders(benchmark, X, quantizer, calls, n_threads)
    expected, margin = greedy_oracle(X, quantizer.codebooks)
    for name, found in codes.items():
        differs = (found != expected).any(axis=1)
        assert (margin[differs] < 1e-5).all(), name
        results = benchmark.extra_info["results"][name]
        results["equal_to_float64"] = float(1 - differs.mean())
    benchmark.extra_info["missing"] = skipped


@pytest.mark.benchmark(group="quantizers: encode, beam")
@pytest.mark.parametrize("n_threads", THREADS)
def test_bench_beam(benchmark, X, quantizer, n_threads):
    """A beam finds nearer codes in the same codebooks."""
    skipped = []
    calls = {f"semid, {beam} beams": lambda X, beam=beam: quantizer.encode(X, beam=beam) for beam in (4, 5)}
    calls |= {n: e for n, e in installed(encoders(quantizer.codebooks), skipped) if "ResidualQuantizer" in n}
    codes = check_encoders(benchmark, X, quantizer, calls, n_threads)
    greedy = relative_distortion(X, quantizer.encode(X), quantizer)
    assert relative_distortion(X, codes["semid, 4 beams"], quantizer) <= greedy
    benchmark.extra_info["missing"] = skipped


@pytest.mark.benchmark(group="quantizers: one and two threads")
def test_bench_threads(benchmark, X, codebook_size):
    """The number of threads changes neither a codebook nor a code."""
    found = {}

    def run(n_threads):
        with use_threads(n_threads):
            quantizer = semid.ResidualKMeans(N_LEVELS, codebook_size).fit(X)
            found[n_threads] = (quantizer.encode(X), quantizer.encode(X, beam=4), *quantizer.codebooks)

    def results():
        return {
            name: {"equal_to_1_thread": all(map(np.array_equal, found[1], found[n]))} for name, n in n_threads.items()
        }

    n_threads = {f"semid, {n} threads": n for n in THREADS}
    calls = {name: lambda n=n: run(n) for name, n in n_threads.items()}
    compare(benchmark, calls, rounds=1, n_items=len(X), results=results)
    assert all(map(np.array_equal, found[1], found[2]))


@pytest.mark.benchmark(group="quantizers: growth")
@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
def test_bench_growth(benchmark, file_of_embeddings, codebook_size, share):
    """Fit and encode a growing number of rows of one file. Past the training sample, only encoding grows."""
    X = np.load(file_of_embeddings, mmap_mode="r")
    X = X[: max(int(share * len(X)), 20 * codebook_size)]
    quantizer = semid.ResidualKMeans(N_LEVELS, codebook_size)
    with use_threads(1):
        semid.ResidualKMeans(N_LEVELS, codebook_size).fit(X[: 20 * codebook_size]).encode(X[:100])  # compiles
        seconds = benchmark.pedantic(_fit_then_encode, (quantizer, X), rounds=1, iterations=1)
    benchmark.extra_info |= {"clock": "CPU", "n_items": len(X), "seconds": seconds}


def _fit_then_encode(quantizer, X):
    begin = time.process_time()
    quantizer.fit(X)
    middle = time.process_time()
    quantizer.encode(X)
    return {"semid fit": [middle - begin], "semid encode": [time.process_time() - middle]}


MEASURE_MEMORY = """
import json, sys
import numpy as np
import semid

def peak():
    # Not ru_maxrss, which begins with the peak of the process that started this one and so hides what comes after.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

path, size = sys.argv[1], int(sys.argv[2])
X = np.load(path, mmap_mode="r")
semid.ResidualKMeans(3, size).fit(np.random.default_rng(0).standard_normal((20 * size, X.shape[1]))).encode(X[:100])
before = peak()
quantizer = semid.ResidualKMeans(3, size).fit(X)
after_fit = peak()
codes = quantizer.encode(X)
assert codes.shape == (len(X), 3)
print(json.dumps({"baseline": before, "fit": after_fit - before, "fit and encode": peak() - before}))
"""


@pytest.mark.benchmark(group="quantizers: peak memory over the baseline, MiB")
def test_bench_memory(benchmark, file_of_embeddings, codebook_size):
    """Fit and encode a memory-mapped file in a process of its own, whose imports and kernels are the baseline."""
    command = [sys.executable, "-c", MEASURE_MEMORY, str(file_of_embeddings), str(codebook_size)]
    output = benchmark.pedantic(subprocess.check_output, (command,), {"text": True}, rounds=1, iterations=1)
    measured = json.loads(output)
    assert measured["fit and encode"] < 512
    n_items = len(np.load(file_of_embeddings, mmap_mode="r"))
    benchmark.extra_info |= {"n_items": n_items, "mebibytes": measured}
