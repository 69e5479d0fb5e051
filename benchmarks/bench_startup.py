"""From ``import semid`` to the first constrained step of a server, in fresh processes, on each back end."""

import json
import os
import statistics
import subprocess
import sys

import pytest

import semid
from benchmarks.catalogues import clustered_codes
from benchmarks.startup import STEPS
from semid.kernels import available

SIZES = (256, 256, 256, 256)


def first_step(path, step, backend, **environment):
    """Return milliseconds from the import to the end of the first step, and whether Numba was imported."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.startup", str(path), step],
        env=os.environ | {"SEMID_BACKEND": backend} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


@pytest.mark.benchmark(group="startup: import semid, map a trie, first step")
@pytest.mark.parametrize("step", STEPS)
def test_bench_startup(benchmark, tmp_path, step):
    """Numba once with an empty cache of machine code, as in a fresh container, and then with a full one."""
    n_items = 2_000 if benchmark.disabled else 1_000_000
    path = tmp_path / "trie.safetensors"
    semid.Trie.from_codes(clustered_codes(n_items, SIZES), codebook_sizes=SIZES).save(path)
    names = [name for name, missing in available().items() if not missing]
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    found = benchmark.pedantic(lambda: first_step(path, step, names[0]), rounds=1)
    assert found["numba"] == (names[0] == "numba")
    if benchmark.disabled:
        return
    compiling = first_step(path, step, "numba", **cache)["milliseconds"] / 1e3
    rounds = [{name: first_step(path, step, name, **cache) for name in names} for _ in range(7)]
    seconds = {f"semid ({name})": [round_[name]["milliseconds"] / 1e3 for round_ in rounds] for name in names}
    seconds["semid (numba), nothing compiled"] = [compiling]
    results = {name: {"milliseconds": [1e3 * statistics.median(times)]} for name, times in seconds.items()}
    benchmark.extra_info |= {"n_items": n_items, "seconds": seconds, "results": results}
