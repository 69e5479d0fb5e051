import ir_measures
import numpy as np
import pytest
from gensar.ranking import metrics, ranks_of
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
