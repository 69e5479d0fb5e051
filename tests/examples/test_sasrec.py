"""SASRec: what a target may see, that order is learnt, and that the best epoch is kept."""

import dataclasses

import numpy as np
import pytest
import torch
from gensar import sasrec
from gensar.baselines import known_items, popularity, rank_requests
from gensar.dataset import TEST, VALID, targets
from gensar.metrics import metrics, ranks_of
from gensar.sasrec import SasRec, SasRecOptions, fit_sasrec, windows_of

SMALL = SasRecOptions(dim=16, dropout=0.1, max_items=6, learning_rate=1e-2, batch_size=16, max_epochs=12, patience=12)


@pytest.fixture
def cycle(without_queries):
    """40 users who walk round one ring of 30 items, each from somewhere: popularity says nothing, order everything."""
    rng = np.random.default_rng(1)
    ring = rng.permutation(30)
    items = np.stack([np.roll(ring, -int(rng.integers(30)))[:9] for _ in range(40)])
    return without_queries(items, n_items=30)


def ndcg_of(dataset, scores, *, split):
    requests = targets(dataset.histories, task="recommendation", split=split)
    popular = popularity(known_items(dataset, split=split), n_items=dataset.n_items)
    ranked = rank_requests(
        dataset, requests, lambda history, event: scores(history.item[history.before(event)]), ties=popular,
        within_query=False, k=10, name="test",
    )  # fmt: skip
    relevant = np.array([dataset.histories[user].item[event] for user, event in requests])
    return metrics(ranks_of(ranked, relevant))["NDCG@10"]


def test_order_is_learnt_where_popularity_knows_nothing(cycle):
    model, validations = fit_sasrec(cycle, options=SMALL, seed=0)
    popular = popularity(known_items(cycle, split=TEST), n_items=30)
    assert ndcg_of(cycle, model.scores, split=TEST) > 0.9
    assert ndcg_of(cycle, lambda history: popular, split=TEST) < 0.3
    assert max(validations) == pytest.approx(ndcg_of(cycle, model.scores, split=VALID))


def test_a_target_is_told_the_items_of_earlier_seconds(toy, rng):
    """Items of a toy user are all different, so an item tells its event."""
    for history in toy.histories:
        train = history.train_events()
        second = dict(zip(history.item[train].tolist(), history.time[train].tolist(), strict=True))
        found = set()
        for window in windows_of(history, max_items=5, rng=rng):
            assert 0 < len(window.items) <= 5
            for place, target in zip(window.place, window.target, strict=True):
                told = [second[item] for item in window.items[: place + 1].tolist()]
                assert max(told) < second[int(target)]
                # Nothing that was earlier is kept back.
                assert all(second[item] >= second[int(target)] for item in window.items[place + 1 :].tolist())
                found.add(int(target))
        assert found <= set(second)
    whole = toy.histories[0]
    [window] = windows_of(whole, max_items=50, rng=rng)
    first = whole.time == whole.time[0]
    train = whole.train_events()
    assert window.target.tolist() == whole.item[train][~first[train]].tolist()


def test_a_history_of_one_second_has_no_window(toy, rng):
    history = dataclasses.replace(toy.histories[0], time=np.zeros_like(toy.histories[0].time))
    assert windows_of(history, max_items=5, rng=rng) == []


def test_the_last_item_of_a_window_finds_the_one_behind_it(cycle, rng):
    history = cycle.histories[0]
    for window in windows_of(history, max_items=3, rng=rng):
        ring = dict(zip(history.item.tolist(), history.item[1:].tolist(), strict=False))
        assert [ring[item] for item in window.items[window.place].tolist()] == window.target.tolist()
    assert sum(len(window.target) for window in windows_of(history, max_items=3, rng=rng)) == 6


def test_scores_see_the_past_alone_and_no_padding():
    torch.manual_seed(0)
    model = SasRec(20, SMALL).eval()
    items = torch.tensor([[3, 1, 4, 1, 5]])
    changed = torch.tensor([[3, 1, 4, 9, 2]])
    torch.testing.assert_close(model(items)[:, :3], model(changed)[:, :3])
    assert not torch.allclose(model(items)[:, 3:], model(changed)[:, 3:])

    histories = [np.array([3, 1]), np.array([7, 3, 1, 4, 1, 5]), np.array([], dtype=np.int64)]
    together = model.batch_scores(histories)
    for history, scores in zip(histories, together, strict=True):
        np.testing.assert_allclose(model.scores(history), scores, rtol=1e-4, atol=1e-6)
    assert together.shape == (3, 20) and not together[2].any()
    # Only the latest `max_items` are read.
    np.testing.assert_array_equal(model.scores(np.array([9, 9, 7, 3, 1, 4, 1, 5])), model.scores(histories[1]))


def test_the_loss_is_the_softmax_over_the_catalogue(cycle, rng):
    torch.manual_seed(0)
    model = SasRec(30, SMALL).eval()
    windows = [window for history in cycle.histories[:3] for window in windows_of(history, max_items=4, rng=rng)]
    expected = []
    for window in windows:
        for place, target in zip(window.place, window.target, strict=True):
            scores = model.scores(window.items[: place + 1]).astype(np.float64)
            expected.append(np.log(np.exp(scores).sum()) - scores[target])
    assert model.loss(windows).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_best_epoch_is_kept_and_patience_ends_it(cycle, monkeypatch):
    told = iter([0.1, 0.5, 0.3, 0.5, 0.2, 0.4])
    monkeypatch.setattr(sasrec, "_ndcg", lambda *_: next(told))
    options = dataclasses.replace(SMALL, patience=2)
    model, validations = fit_sasrec(cycle, options=options, seed=0)
    assert validations == [0.1, 0.5, 0.3, 0.5]
    assert not model.training
    told = iter([0.1, 0.5])
    second, _ = fit_sasrec(cycle, options=dataclasses.replace(options, max_epochs=2), seed=0)
    for name, tensor in second.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_seed_repeats_and_leaves_torchs_generator(cycle):
    options = dataclasses.replace(SMALL, max_epochs=2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    history = np.array([1, 2, 3])
    first, again, other = (fit_sasrec(cycle, options=options, seed=seed)[0].scores(history) for seed in (1, 1, 2))
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_one_thread_trains_and_the_others_come_back(cycle, monkeypatch):
    """More threads add up in another order: IDs would depend on the machine."""
    used = set()
    loss = SasRec.loss

    def noted(self, windows):
        used.add(torch.get_num_threads())
        return loss(self, windows)

    monkeypatch.setattr(SasRec, "loss", noted)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        fit_sasrec(cycle, options=dataclasses.replace(SMALL, max_epochs=1), seed=0)
        assert (used, torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(before)


def test_without_validation_targets_all_epochs_are_trained(cycle):
    short = tuple(
        dataclasses.replace(history, split=np.zeros(9, np.int8), search_split=np.full(9, -1, np.int8))
        for history in cycle.histories
    )
    dataset = dataclasses.replace(cycle, histories=short)
    model, validations = fit_sasrec(dataset, options=SMALL, seed=0)
    assert validations == []
    assert int(np.argmax(model.scores(cycle.histories[0].item[:5]))) == int(cycle.histories[0].item[5])
