"""The candidates of the paper's protocol: what is drawn, what a file must hold, and how a model ranks them."""

import numpy as np
import pytest
from gensar.baselines import Bm25
from gensar.dataset import TEST, targets
from gensar.evaluation import Evaluator
from gensar.lab.candidates import (
    CANDIDATE_FILES,
    Candidates,
    candidates_for,
    draw_by_popularity,
    draw_candidates,
    generate_candidates,
    read_candidates,
    score_candidates,
)
from gensar.language import draw_forms, prompt
from gensar.loaders import load_dataset
from gensar.metrics import metrics, ranks_of
from gensar.models import CausalBackbone, T5Backbone
from oracles import log_probability

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


def candidates_of(toy, n_candidates):
    tasks = ("recommendation", "search")
    return Candidates({task: draw_candidates(toy, task=task, n_candidates=n_candidates) for task in tasks}, {})


@pytest.mark.parametrize("kind", [CausalBackbone, T5Backbone])
@pytest.mark.parametrize("task", ["recommendation", "search"])
@pytest.mark.parametrize("n_candidates", [15, 100])
def test_candidates_are_ranked_by_their_probabilities(kind, task, n_candidates, toy, identifiers, teach, recipe):
    """Against teacher forcing of each; 100 are more than the toy has, so rows end in padding."""
    model, language = teach(kind(recipe))
    model.eval()
    candidates = candidates_of(toy, n_candidates)
    result = score_candidates(Evaluator(toy, identifiers, language, recipe), model, task, candidates)
    requests = targets(toy.histories, task=task, split=TEST)
    assert list(result.metrics) == [f"{name}@{k}" for k in (1, 5, 10, 20) for name in ("HR", "NDCG")]
    for (user, event), own, ranked in list(zip(requests, candidates.items[task], result.ranked, strict=True))[:4]:
        history = toy.histories[user]
        forms = draw_forms(history, np.random.default_rng([user, event]), search_share=recipe.search_share)
        tokens = prompt(language, history, event, task=task, forms=forms, max_tokens=recipe.max_tokens)
        own = own[own >= 0]
        scores = {item: log_probability(model, tokens, language.id_tokens[task][item].tolist()) for item in own}
        best = sorted(scores.values(), reverse=True)[:20]
        shown = ranked[ranked >= 0]
        assert len(shown) == len(best) == len(set(shown))
        np.testing.assert_allclose([scores[item] for item in shown], best, atol=1e-4)
    relevant = np.array([toy.histories[user].item[event] for user, event in requests])
    assert result.metrics == metrics(ranks_of(result.ranked, relevant), cutoffs=(1, 5, 10, 20))
    np.testing.assert_array_equal(result.users, requests[:, 0])


@pytest.mark.parametrize("kind", [CausalBackbone, T5Backbone])
def test_thirty_beams_find_what_the_scores_find_when_there_are_fewer_candidates(kind, toy, identifiers, teach, recipe):
    model, language = teach(kind(recipe))
    model.eval()
    evaluator, candidates = Evaluator(toy, identifiers, language, recipe), candidates_of(toy, 15)
    exact = score_candidates(evaluator, model, "search", candidates)
    beams = generate_candidates(evaluator, model, "search", candidates)
    assert beams.n_generated == beams.n_real == 15 * len(exact.ranks) and beams.n_repeated == 0
    assert (exact.ranked == beams.ranked).mean() > 0.95  # all but exact ties
    assert (beams.ranked[:, 15:] == -1).all()


def test_equal_scores_do_not_favour_the_target(toy, identifiers, teach, recipe, monkeypatch):
    """The target stands first in its row; a model that knows nothing must find it by chance."""
    model, language = teach(CausalBackbone(recipe))
    model.eval()
    monkeypatch.setattr("semid.score_items", lambda *_, candidates, **__: np.zeros((len(candidates), 15), np.float32))
    evaluator, candidates = Evaluator(toy, identifiers, language, recipe), candidates_of(toy, 15)
    assert score_candidates(evaluator, model, "search", candidates).metrics["HR@1"] < 0.5
