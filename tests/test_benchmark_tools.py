"""What the benchmarks stand on: interleaved timing, tables, and the generated embeddings."""

import numpy as np
import pytest

from benchmarks.embeddings import clustered_embeddings, participation_ratio
from benchmarks.growth import draw_growth
from benchmarks.side_by_side import ratios, side_by_side
from benchmarks.tables import table


def report(*entries):
    machine = {"cpu": {"brand_raw": "A processor"}}
    return {"benchmarks": list(entries), "machine_info": machine, "datetime": "2026-11-23T10:00:00"}


def entry(group, extra_info, **params):
    return {"group": group, "params": params or None, "extra_info": extra_info}


def test_slow_calls_run_in_the_first_round_only():
    calls, clock = [], iter(range(100))
    seconds = side_by_side(
        {"fast": lambda: calls.append("fast"), "slow": lambda: calls.append("slow")},
        rounds=3, slow={"slow"}, clock=lambda: next(clock),
    )  # fmt: skip
    assert sorted(calls) == ["fast"] * 4 + ["slow"]  # three rounds and a warm-up
    assert seconds == {"fast": [1, 1, 1], "slow": [1]}


def test_ratios_are_taken_round_by_round():
    assert ratios({"a": [1.0, 2.0, 4.0], "b": [2.0, 8.0], "c": [3.0, 3.0, 3.0]}, of="a") == {
        "a": (1, 1, 1),
        "b": (3, 2, 4),
        "c": (1.5, 0.75, 3),
    }


def test_a_table_of_times():
    info = {"n_items": 1000, "seconds": {"semid": [1.0, 1.0], "dict": [2.0, 3.0]}}
    lines = table(report(entry("trie: children", info, depth=2))).splitlines()
    assert lines[0].startswith("Time of each library")
    assert lines[4:6] == [
        "| trie: children, depth 2 | 1,000 | semid | 1 | 2 |",
        "| trie: children, depth 2 | 1,000 | dict | 2.5 (2 .. 3) | 2 |",
    ]
    assert lines[-1].startswith("A processor, ") and lines[-1].endswith(", 2026-11-23.")


def test_a_table_with_results_memory_and_missing_rivals():
    info = {
        "n_items": 10, "clock": "CPU", "seconds": {"semid": [2.0], "faiss": [3.0]}, "missing": ["semantic-id"],
        "results": {"semid": {"perplexity": [230.4, 220.0], "relative_distortion": 0.25}, "faiss": {"equal": True}},
    }  # fmt: skip
    memory = {"n_items": 10, "mebibytes": {"fit": 99.6}}
    text = table(report(entry("fit", info, n_threads=2, X="clustered"), entry("memory", memory)))
    assert text.startswith("CPU time of each library")
    assert (
        "| fit, 2 threads, clustered | 10 | semid | 1 | 1 | 2 | perplexity 230/220, relative distortion 25.000% |"
        in text
    )
    assert "| fit, 2 threads, clustered | 10 | faiss | 1.5 | 1 | 3 | equal true |" in text
    assert "| memory | 10 | fit | 100 |" in text
    assert "Not installed, and so not measured: semantic-id." in text


def test_a_call_without_a_rival_shows_what_it_achieved():
    info = {"n_items": 20, "seconds": {"semid": [1.0]}, "results": {"semid": {"over_beam": 0.0057}}}
    lines = table(report(entry("resolve", info))).splitlines()
    assert "| resolve | 20 | semid | over beam 0.570% |" in lines


def test_the_growth_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    entries = [
        entry("quantizers: growth", {"n_items": n, "seconds": {"semid fit": [n / 10], "semid encode": [n / 100]}})
        for n in (10, 1000, 100)
    ]
    draw_growth(report(*entries), tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000
    solved = [
        entry(
            "collisions: growth",
            {"n_items": n, "size": size, "collided": n / 1000, "seconds": {"semid, assignment": [n / 9]}},
        )
        for n in (10, 100)
        for size in (8, 16)
    ]
    draw_growth(report(*solved), tmp_path / "solved.png")
    assert (tmp_path / "solved.png").stat().st_size > 1000
    searches = [
        entry(
            "generate: growth",
            {"n_items": 9, "num_beams": n_beams, "length": length, "seconds": {"semid": [1.0, 3.0], "HF": [n_beams]},
             "mebibytes": {"semid, 1": 2.0, "HF, 1": length}},
        )
        for n_beams, length in ((1, 64), (50, 64), (50, 512))
    ]  # fmt: skip
    draw_growth(report(*searches), tmp_path / "searches.png")
    assert (tmp_path / "searches.png").stat().st_size > 1000
    draw_growth(report(), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_clustered_embeddings():
    X = clustered_embeddings(2_000, dim=64, seed=3)
    assert X.shape == (2_000, 64) and X.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, atol=1e-5)
    assert 5 < participation_ratio(X) < 40
    n_distinct = len(np.unique(X, axis=0))
    assert 2_000 - 12 < n_distinct < 2_000
    again = clustered_embeddings(2_000, dim=64, seed=3, out=np.empty((2_000, 64), np.float32))
    assert (again == X).all() and (clustered_embeddings(2_000, dim=64, seed=4) != X).any()
