"""The causal backbone: every training event is a target once, and sees nothing of its own second or later."""

import numpy as np
import pytest
import torch
from gensar.backbone import IGNORED
from gensar.causal import CausalBackbone, strict_mask
from gensar.events import event_parts


@pytest.fixture
def backbone(recipe):
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


def test_an_epoch_has_every_training_event_once(backbone, teach, toy):
    _, language = teach(backbone)
    rows = backbone.draw(toy.histories, language, rng_of(0))
    found = []
    for row in rows:
        assert len(row.tokens) <= backbone.recipe.max_tokens
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


def test_epochs_differ_and_repeat_with_their_seed(backbone, teach, toy):
    _, language = teach(backbone)
    first, again, other = (backbone.draw(toy.histories, language, rng_of(0, epoch)) for epoch in (1, 1, 2))
    assert first == again
    assert first != other


def test_batches_hold_all_samples_within_the_token_budget(backbone, teach, toy):
    _, language = teach(backbone)
    samples = backbone.draw(toy.histories, language, rng_of(3))
    batches = backbone.epoch(toy.histories, language, rng_of(3))
    assert sorted(row.tokens for batch in batches for row in batch) == sorted(row.tokens for row in samples)
    for batch in batches:
        assert len(batch) * max(len(row.tokens) for row in batch) <= backbone.recipe.tokens_per_step


def test_a_target_sees_nothing_of_its_own_second_or_later(backbone, teach, toy):
    """Replace every token that a target must not see; its logits stay."""
    model, language = teach(backbone)
    model.eval()
    batch = dict(backbone.collate(backbone.draw(toy.histories[:2], language, rng_of(4))[:2], pad=0))
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


def test_loss_agrees_with_one_event_at_a_time(backbone, teach, toy, with_recipe):
    """The strict mask over a window gives each target what a prompt of its visible tokens alone gives it."""
    model, language = teach(backbone)
    model.eval()
    row = max(backbone.draw(toy.histories[:1], language, rng_of(5)), key=lambda row: len(row.tokens))
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
    batch = backbone.collate([row], pad=0)
    torch.testing.assert_close(backbone.loss(model, batch), expected, rtol=1e-5, atol=1e-5)


def test_held_out_events_are_in_no_window(backbone, teach, toy):
    _, language = teach(backbone)
    history = toy.histories[0]
    held_out = history.item[np.setdiff1d(np.arange(len(history.item)), history.train_events())]
    sids = {
        tuple(event_parts(language, history, int(event), as_search=search)[1])
        for event in np.flatnonzero(np.isin(history.item, held_out)) for search in (False,)
    }  # fmt: skip
    for row in backbone.draw([history], language, rng_of(6)):
        windows = {tuple(row.tokens[at : at + language.n_levels]) for at in range(len(row.tokens))}
        assert not windows & sids
