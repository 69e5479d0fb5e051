"""The T5 backbone: one prompt per training event, answered by its ID."""

import numpy as np
import pytest
import torch
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
