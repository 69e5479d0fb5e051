"""The causal model never sees its own second or later; the T5 has one prompt per training event; both have one loss."""

import numpy as np
import pytest
import torch
from gensar.language import event_parts
from gensar.models import IGNORED, CausalBackbone, T5Backbone, strict_mask


@pytest.fixture
def causal(recipe):
    return CausalBackbone(recipe)


def rng_of(*seed):
    return np.random.default_rng(list(seed))


def test_mask_agrees_with_its_definition():
    rng = np.random.default_rng(0)
    event = np.sort(rng.integers(0, 8, (3, 20)), axis=1)
    moment = np.take(np.sort(rng.integers(0, 4, 8)), event)
    expected = np.zeros((3, 1, 20, 20), dtype=bool)
    for row in range(3):
        for i in range(20):
            for j in range(20):
                own = event[row, i] == event[row, j] and j <= i
                expected[row, 0, i, j] = own or moment[row, j] < moment[row, i]
    np.testing.assert_array_equal(strict_mask(torch.tensor(moment), torch.tensor(event)).numpy(), expected)


def test_an_epoch_has_every_training_event_once(causal, teach, toy):
    _, language = teach(causal)
    rows = causal.draw(toy.histories, language, rng_of(0))
    found = []
    for row in rows:
        assert len(row.tokens) <= causal.recipe.max_tokens
        targets = [token for token, label in zip(row.tokens, row.labels, strict=True) if label != IGNORED]
        assert targets == [label for label in row.labels if label != IGNORED]
        found += [tuple(targets[at : at + language.n_levels]) for at in range(0, len(targets), language.n_levels)]
    expected = []
    for history in toy.histories:
        for event in history.train_events():
            expected.append(tuple(sorted(
                tuple(language.id_tokens[task][history.item[event]].tolist()) for task in ("search", "recommendation")
            )))  # fmt: skip
    either = {sid: pair for pair in expected for sid in pair}
    assert sorted(either[sid] for sid in found) == sorted(expected)


def test_epochs_differ_and_repeat_with_their_seed(causal, teach, toy):
    _, language = teach(causal)
    first, again, other = (causal.draw(toy.histories, language, rng_of(0, epoch)) for epoch in (1, 1, 2))
    assert first == again
    assert first != other


def test_batches_hold_all_samples_within_the_token_budget(causal, teach, toy):
    _, language = teach(causal)
    samples = causal.draw(toy.histories, language, rng_of(3))
    batches = causal.epoch(toy.histories, language, rng_of(3))
    assert sorted(row.tokens for batch in batches for row in batch) == sorted(row.tokens for row in samples)
    for batch in batches:
        assert len(batch) * max(len(row.tokens) for row in batch) <= causal.recipe.tokens_per_step


def test_a_target_sees_nothing_of_its_own_second_or_later(causal, teach, toy):
    """Replace every token that a target must not see; its logits stay."""
    model, language = teach(causal)
    model.eval()
    batch = dict(causal.collate(causal.draw(toy.histories[:2], language, rng_of(4))[:2], pad=0))
    row = 0
    for event in torch.unique(batch["event"][row][batch["event"][row] >= 0]):
        own = batch["event"] == event
        moment = batch["moment"][row][own[row]][0]
        hidden = (batch["moment"] >= moment) & ~own
        changed = dict(batch, input_ids=torch.where(hidden, 3, batch["input_ids"]))
        with torch.inference_mode():
            mask = strict_mask(batch["moment"], batch["event"])
            before = model(input_ids=batch["input_ids"], attention_mask=mask).logits[row][own[row]]
            after = model(input_ids=changed["input_ids"], attention_mask=mask).logits[row][own[row]]
        torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_loss_agrees_with_one_event_at_a_time(causal, teach, toy, with_recipe):
    """The strict mask over a window gives each target what a prompt of its visible tokens alone gives it."""
    model, language = teach(causal)
    model.eval()
    row = max(causal.draw(toy.histories[:1], language, rng_of(5)), key=lambda row: len(row.tokens))
    tokens, event, moment = (torch.tensor(part) for part in (row.tokens, row.event, row.moment))
    losses = []
    for target in torch.unique(event):
        own = event == target
        visible = (moment < moment[own][0]) | own
        # The same mask among the visible tokens and the same positions, each target alone.
        logits = model(
            input_ids=tokens[visible][None],
            attention_mask=strict_mask(moment[visible][None], event[visible][None]),
            position_ids=torch.arange(len(tokens))[visible][None],
        ).logits[0, -int(own.sum()) :]
        width = language.n_levels
        losses.append(torch.nn.functional.cross_entropy(logits[-width - 1 : -1], tokens[own][-width:]))
    expected = torch.stack(losses).mean()
    batch = causal.collate([row], pad=0)
    torch.testing.assert_close(causal.loss(model, batch), expected, rtol=1e-5, atol=1e-5)


def test_held_out_events_are_in_no_window(causal, teach, toy):
    _, language = teach(causal)
    history = toy.histories[0]
    held_out = history.item[np.setdiff1d(np.arange(len(history.item)), history.train_events())]
    sids = {
        tuple(event_parts(language, history, int(event), as_search=search)[1])
        for event in np.flatnonzero(np.isin(history.item, held_out)) for search in (False,)
    }  # fmt: skip
    for row in causal.draw([history], language, rng_of(6)):
        windows = {tuple(row.tokens[at : at + language.n_levels]) for at in range(len(row.tokens))}
        assert not windows & sids


@pytest.fixture
def t5(recipe):
    return T5Backbone(recipe)


def test_an_epoch_has_one_pair_per_training_event(t5, teach, toy):
    _, language = teach(t5)
    pairs = t5.draw(toy.histories, language, np.random.default_rng(0))
    events = [(history, event) for history in toy.histories for event in history.train_events()]
    assert len(pairs) == len(events)
    for pair, (history, event) in zip(pairs, events, strict=True):
        task = "recommendation" if pair.prompt[-len(language.rec_head) :] == list(language.rec_head) else "search"
        assert pair.sid == language.id_tokens[task][history.item[event]].tolist()
        assert len(pair.prompt) <= t5.recipe.max_tokens


def test_collate_masks_the_padding(t5, teach, toy):
    _, language = teach(t5)
    pairs = t5.draw(toy.histories, language, np.random.default_rng(0))[:5]
    batch = t5.collate(pairs, pad=0)
    for row, pair in enumerate(pairs):
        assert batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist() == pair.prompt
        assert batch["labels"][row].tolist() == pair.sid


def test_loss_ignores_the_padding(t5, teach, toy):
    model, language = teach(t5)
    model.eval()
    pairs = t5.draw(toy.histories, language, np.random.default_rng(0))[3:9]
    one_by_one = torch.stack([t5.loss(model, t5.collate([pair], pad=0)) for pair in pairs])
    together = t5.loss(model, t5.collate(pairs, pad=0))
    torch.testing.assert_close(together, one_by_one.mean(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [T5Backbone, CausalBackbone])
def test_label_smoothing_spreads_a_share_over_the_vocabulary(kind, teach, toy, with_recipe):
    """``(1 - s) (-log p of the target) + s (-mean of log p)``, here from the losses with no and with all smoothing."""
    plain, smoothed = kind(with_recipe()), kind(with_recipe(label_smoothing=0.25))
    model, language = teach(plain)
    model.eval()
    batch = plain.collate(plain.draw(toy.histories, language, np.random.default_rng(0))[:4], pad=0)
    if kind is T5Backbone:
        log_probs, labels = model(**batch).logits.log_softmax(-1), batch["labels"]
    else:
        mask = strict_mask(batch["moment"], batch["event"])
        log_probs = model(input_ids=batch["input_ids"], attention_mask=mask).logits[:, :-1].log_softmax(-1)
        labels = batch["labels"][:, 1:]
    kept = labels != IGNORED
    log_probs, targets = log_probs[kept], labels[kept]
    hard = -log_probs[torch.arange(len(targets)), targets].mean()
    torch.testing.assert_close(plain.loss(model, batch), hard, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(smoothed.loss(model, batch), 0.75 * hard - 0.25 * log_probs.mean(), rtol=1e-5, atol=1e-5)
