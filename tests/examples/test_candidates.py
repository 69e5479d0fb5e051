"""The candidates of the paper's protocol: what is drawn, and what a file must hold."""

import numpy as np
import pytest
from gensar.baselines import Bm25
from gensar.candidates import CANDIDATE_FILES, candidates_for, draw_by_popularity, draw_candidates, read_candidates
from gensar.dataset import TEST, targets
from gensar.loaders import load_dataset

from semid.errors import FormatError


def targets_of(dataset, task):
    requests = targets(dataset.histories, task=task, split=TEST)
    return requests, [dataset.histories[user].item[event] for user, event in requests]


@pytest.mark.parametrize("task", ["recommendation", "search"])
def test_target_first_and_no_item_twice(toy, task):
    items = draw_candidates(toy, task=task, n_candidates=12)
    requests, wanted = targets_of(toy, task)
    assert items.shape == (len(requests), 12)
    assert items[:, 0].tolist() == wanted
    assert all(len(set(row)) == 12 and min(row) >= 0 for row in items.tolist())


def test_nothing_that_the_user_has_is_recommended(toy):
    items = draw_candidates(toy, task="recommendation")
    requests, _ = targets_of(toy, "recommendation")
    for (user, event), row in zip(requests, items, strict=True):
        history = toy.histories[user]
        assert not set(row[1:].tolist()) & set(history.item[: event + 1].tolist())
        # Fewer than 99 items are left, so all of them are there, and then padding.
        ever = {int(item) for other in toy.histories for item in other.item}
        assert set(row[row >= 0].tolist()) - {row[0]} == ever - set(history.item[: event + 1].tolist()) - {row[0]}


def test_search_takes_the_best_hits_of_the_query_in_order(toy):
    items = draw_candidates(toy, task="search", n_candidates=6)
    bm25 = Bm25(toy.item_texts, k1=0.9, b=0.4)
    requests, wanted = targets_of(toy, "search")
    for (user, event), row, target in zip(requests, items, wanted, strict=True):
        scores = bm25.scores(toy.query_texts[toy.histories[user].query[event]])
        hits = [item for item in np.argsort(-scores, kind="stable") if scores[item] > 0 and item != target][:5]
        assert row[1 : 1 + len(hits)].tolist() == hits


def test_popular_items_are_drawn_as_often_as_their_share():
    counts = np.array([0.0, 1.0, 3.0, 6.0])
    rng = np.random.default_rng(1)
    first = [draw_by_popularity(counts, np.array([], dtype=int), rng, n=1)[0] for _ in range(4000)]
    np.testing.assert_allclose(np.bincount(first, minlength=4) / 4000, [0, 0.1, 0.3, 0.6], atol=0.03)
    assert sorted(draw_by_popularity(counts, np.array([2]), rng, n=9)) == [1, 3]


def test_the_draw_is_the_same_every_time(toy):
    again = [draw_candidates(toy, task="recommendation", n_candidates=8) for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_files_of_the_folder_are_taken(toy, tmp_path):
    items = draw_candidates(toy, task="search", n_candidates=9).astype(np.uint16)
    np.save(tmp_path / CANDIDATE_FILES["search"], items)
    found = candidates_for(toy, tmp_path)
    np.testing.assert_array_equal(found.items["search"], items)
    assert found.note["search"] == "read from cand_search_test.npy"
    np.testing.assert_array_equal(found.items["recommendation"], draw_candidates(toy, task="recommendation"))
    assert "seed 2024" in found.note["recommendation"]


def spoil(items, how):
    items = items.copy()
    match how:
        case "short":
            return items[:-1]
        case "floats":
            return items.astype(np.float32)
        case "unknown":
            items[1, 3] = 40
        case "swapped":
            items[[0, 1]] = items[[1, 0]]
        case "twice":
            items[2, 4] = items[2, 5]
    return items


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("short", r"expected integers of shape \(12, n_candidates\), got int64 of shape \(11, 9\)\. Write one row"),
        ("floats", r"expected integers .* got float32"),
        ("unknown", r"names unknown items: expected indices below 40, got 0 to 40\. Number"),
        ("swapped", r"row 0 is not of this request: expected distinct items, the target \d+ first"),
        ("twice", r"row 2 is not of this request: .* with 1 repeated\. Write the rows in the order"),
    ],
)
def test_a_file_of_other_data(how, message, toy, tmp_path):
    items = draw_candidates(toy, task="recommendation", n_candidates=9)
    items[0, 1:] = [item for item in range(40) if item != items[0, 0]][:8]
    np.save(tmp_path / "cand.npy", spoil(items, how))
    with pytest.raises(FormatError, match=message):
        read_candidates(tmp_path / "cand.npy", toy, task="recommendation")


def test_a_damaged_file(toy, tmp_path):
    (tmp_path / "cand.npy").write_bytes(b"not an array")
    with pytest.raises(FormatError, match=r"cannot be read: expected a \.npy array"):
        read_candidates(tmp_path / "cand.npy", toy, task="search")


def test_the_folders_of_the_data_sets_fit(data_folder):
    dataset = load_dataset(data_folder / "amazon_beauty_small")
    for task, name in CANDIDATE_FILES.items():
        items = read_candidates(data_folder / "amazon_beauty_small" / name, dataset, task=task)
        assert items.shape == (4322, 100)
        assert items[:, 0].tolist() == targets_of(dataset, task)[1]
