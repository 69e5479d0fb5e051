"""HR and NDCG against another library, the intervals against plain draws, and the table as it is printed."""

import ir_measures
import numpy as np
import pytest
from gensar.metrics import format_table, interval_rows, intervals, metrics, ranks_of, unbeaten_floors
from ir_measures import Qrel, ScoredDoc, Success, nDCG

from semid.errors import InvalidValueError


def test_ranks():
    ranked = np.array([[3, 1, 2], [1, 2, -1], [5, 6, 7]])
    assert ranks_of(ranked, np.array([3, 2, 8])).tolist() == [0, 1, -1]


@pytest.mark.parametrize("cutoffs", [(5, 10), (1, 5, 10, 20)])
def test_metrics_agree_with_ir_measures(cutoffs, rng):
    n_requests, n_items, length = 40, 30, 20
    ranked = np.array([rng.permutation(n_items)[:length] for _ in range(n_requests)])
    relevant = rng.integers(0, n_items, n_requests)
    qrels = [Qrel(str(row), str(item), 1) for row, item in enumerate(relevant)]
    run = [
        ScoredDoc(str(row), str(item), float(-place))
        for row, items in enumerate(ranked)
        for place, item in enumerate(items)
    ]
    expected = ir_measures.calc_aggregate([measure @ k for k in cutoffs for measure in (Success, nDCG)], qrels, run)
    ours = metrics(ranks_of(ranked, relevant), cutoffs=cutoffs)
    assert list(ours) == [f"{name}@{k}" for k in cutoffs for name in ("HR", "NDCG")]
    for k in cutoffs:
        assert ours[f"HR@{k}"] == pytest.approx(expected[Success @ k], abs=1e-12)
        assert ours[f"NDCG@{k}"] == pytest.approx(expected[nDCG @ k], abs=1e-12)


def test_a_rank_beyond_the_list_counts_nothing():
    assert metrics(np.array([-1, 10, 9, 0]), cutoffs=(10,)) == {
        "HR@10": 0.5,
        "NDCG@10": pytest.approx((1 / np.log2(11) + 1) / 4),
    }


def test_no_requests():
    message = r"no requests to average over: expected at least one rank, got none\. Check the split\."
    with pytest.raises(InvalidValueError, match=message):
        metrics(np.array([], dtype=np.int64))


def test_shapes_that_do_not_match():
    message = r"expected \(n_requests, list_length\) and \(n_requests,\), got \(2, 3\) and \(3,\)\. Give one list"
    with pytest.raises(InvalidValueError, match=message):
        ranks_of(np.zeros((2, 3), dtype=int), np.zeros(3, dtype=int))


def test_agrees_with_drawing_the_requests_of_users_one_by_one(rng):
    users = np.repeat(np.arange(40), rng.integers(1, 4, 40))
    ranks = rng.integers(-1, 12, len(users))
    again = np.random.default_rng(3)
    drawn = []
    for _ in range(200):
        rows = np.concatenate([np.flatnonzero(users == user) for user in again.integers(40, size=40)])
        drawn.append(metrics(ranks[rows]))
    found = intervals(ranks, users, n_draws=200, seed=3)
    assert list(found) == [f"{name}@{k}" for k in (1, 5, 10, 20) for name in ("HR", "NDCG")]
    for name, ends in found.items():
        assert ends == pytest.approx(np.quantile([values[name] for values in drawn], [0.025, 0.975]), abs=1e-12)


def test_is_as_wide_as_the_standard_error_says(rng):
    """1,000 requests of 1,000 users: 1.96 sqrt(p (1 - p) / n) on each side, within the error of a thousand draws."""
    hit = rng.random(1000) < 0.3
    low, high = intervals(np.where(hit, 0, -1), np.arange(1000), cutoffs=(1,))["HR@1"]
    half = 1.96 * np.sqrt(hit.mean() * (1 - hit.mean()) / 1000)
    assert low == pytest.approx(hit.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(hit.mean() + half, abs=0.1 * half)


def test_users_may_have_any_numbers(rng):
    ranks = rng.integers(-1, 12, 50)
    assert intervals(ranks, np.arange(50)) == intervals(ranks, 7 * np.arange(50) + 3)


@pytest.mark.parametrize(("n_ranks", "n_users"), [(0, 0), (3, 2)])
def test_ranks_without_users(n_ranks, n_users):
    message = rf"got \({n_ranks},\) ranks and \({n_users},\) users\. Pass the users of the ranks\."
    with pytest.raises(InvalidValueError, match=message):
        intervals(np.zeros(n_ranks, dtype=int), np.zeros(n_users, dtype=int))


MODEL = {"recommendation": {"HR@10": 0.15, "NDCG@10": 0.0779}, "search": {"HR@10": 0.6, "NDCG@10": 0.4}}
FLOORS = {
    "recommendation": {
        "popularity": {"HR@10": 0.08, "NDCG@10": 0.04},
        "item-item CF": {"HR@10": 0.14, "NDCG@10": 0.082},
    },
    "search": {"BM25": {"HR@10": 0.31, "NDCG@10": 0.19}},
}


def test_table():
    assert format_table(MODEL, FLOORS, name="causal").splitlines() == [
        "                   HR@10   NDCG@10",
        "----------------------------------",
        "recommendation",
        "  causal          0.1500    0.0779",
        "  popularity      0.0800    0.0400",
        "  item-item CF    0.1400    0.0820",
        "----------------------------------",
        "search",
        "  causal          0.6000    0.4000",
        "  BM25            0.3100    0.1900",
        "----------------------------------",
        "Baselines that causal does not beat:",
        "  recommendation, item-item CF: NDCG@10 95% of it",
    ]


def test_all_beaten_is_said_plainly():
    table = format_table({"search": MODEL["search"]}, FLOORS)
    assert table.endswith("ours: better than every baseline on every metric.")
    assert "recommendation" not in table


def test_a_tie_is_not_a_win():
    floors = {"search": {"BM25": {"HR@10": 0.6, "NDCG@10": 0.3}, "none": {"HR@10": 0.0, "NDCG@10": 0.0}}}
    assert unbeaten_floors(MODEL, floors) == [("search", "BM25", ["HR@10"])]
    zero = {"search": {"HR@10": 0.0, "NDCG@10": 0.0}}
    assert "none: HR@10 both 0, NDCG@10 both 0" in format_table(zero, {"search": {"none": zero["search"]}})


def test_rows_below_the_model_are_shown_and_not_judged():
    spread = {"search": {"HR@10": (0.55, 0.65), "NDCG@10": (0.35, 0.45)}}
    below = {"search": {**interval_rows(spread)["search"], "with beams": {"HR@10": 0.7, "NDCG@10": 0.5}}}
    table = format_table({"search": MODEL["search"]}, FLOORS, below=below).splitlines()
    assert table[3:7] == [
        "  ours          0.6000    0.4000",
        "    95% from    0.5500    0.3500",
        "    95% to      0.6500    0.4500",
        "  with beams    0.7000    0.5000",
    ]
    assert table[-1] == "ours: better than every baseline on every metric."


def test_the_metrics_that_are_shown_are_those_that_are_judged():
    table = format_table(MODEL, FLOORS, shown=["HR@10"])
    assert "NDCG" not in table
    assert table.endswith("ours: better than every baseline on every metric.")
