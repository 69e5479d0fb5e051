"""The T5 backbone: one prompt per training event, answered by its ID."""

import numpy as np
import pytest
import torch
from gensar.backbone import IGNORED
from gensar.causal import CausalBackbone, strict_mask
from gensar.encoder_decoder import T5Backbone


@pytest.fixture
def backbone(recipe):
    return T5Backbone(recipe)


def test_an_epoch_has_one_pair_per_training_event(backbone, teach, toy):
    _, language = teach(backbone)
    pairs = backbone.draw(toy.histories, language, np.random.default_rng(0))
    events = [(history, event) for history in toy.histories for event in history.train_events()]
    assert len(pairs) == len(events)
    for pair, (history, event) in zip(pairs, events, strict=True):
        task = "recommendation" if pair.prompt[-len(language.rec_head) :] == list(language.rec_head) else "search"
        assert pair.sid == language.id_tokens[task][history.item[event]].tolist()
        assert len(pair.prompt) <= backbone.recipe.max_tokens


def test_collate_masks_the_padding(backbone, teach, toy):
    _, language = teach(backbone)
    pairs = backbone.draw(toy.histories, language, np.random.default_rng(0))[:5]
    batch = backbone.collate(pairs, pad=0)
    for row, pair in enumerate(pairs):
        assert batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist() == pair.prompt
        assert batch["labels"][row].tolist() == pair.sid


def test_loss_ignores_the_padding(backbone, teach, toy):
    model, language = teach(backbone)
    model.eval()
    pairs = backbone.draw(toy.histories, language, np.random.default_rng(0))[3:9]
    one_by_one = torch.stack([backbone.loss(model, backbone.collate([pair], pad=0)) for pair in pairs])
    together = backbone.loss(model, backbone.collate(pairs, pad=0))
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
