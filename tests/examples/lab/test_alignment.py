"""The four training tasks beside search and recommendation: what they read and write, told in words."""

import numpy as np
import pytest
import torch
from gensar.lab.alignment import (
    ITEM_TEXT,
    MARKERS,
    SHARES,
    check_training_tasks,
    make_reader_of_six,
    tokenizer_of_six,
)
from gensar.language import REC_ITEM, SRC_ITEM, SRC_QUERY, make_tokenizer, strict_past
from gensar.models import T5Backbone
from gensar.presets import recipe_for

from semid.errors import InvalidValueError


@pytest.fixture
def six(toy, identifiers, with_recipe):
    """A T5 that learns all six tasks: (backbone, model, language)."""
    torch.manual_seed(0)
    recipe = with_recipe(training_tasks="six", inputs="tokens")
    return make_reader_of_six(toy, {}, identifiers, backbone="t5", recipe=recipe, past=strict_past)


@pytest.fixture
def samples(six, toy):
    """Name of the task -> list of (prompt, answer) in words; told apart by their tokens."""
    backbone, _, language = six
    drawn = backbone.more_samples(
        toy.histories, language, np.random.default_rng(0), recipe=backbone.recipe, n_samples=20_000
    )
    found = {name: [] for name in SHARES}
    for prompt, answer in drawn:
        asked, told = (language.tokenizer.convert_ids_to_tokens(tokens) for tokens in (prompt, answer))
        if asked[-1] == SRC_QUERY:
            found["next query"].append((asked, told))
        elif asked[-1] == SRC_ITEM:
            found["pseudo-query"].append((asked, told))
        elif asked[-1] == ITEM_TEXT:
            found["ID to text"].append((asked, told))
        else:
            found["text to ID"].append((asked, told))
    return found


def written(toy, language, task, item):
    return language.tokenizer.convert_ids_to_tokens(language.id_tokens[task][item].tolist())


def test_the_shares_are_those_of_the_released_code(samples):
    assert {name: len(drawn) for name, drawn in samples.items()} == {
        "next query": 19, "pseudo-query": 19, "text to ID": 39, "ID to text": 39,
    }  # fmt: skip
    main = 930_387 + 100_000
    for name, count in zip(SHARES, (1000, 1000, 2000, 2000), strict=True):
        assert SHARES[name] == pytest.approx(count / main, rel=0.01)


def test_a_query_follows_its_history_and_is_not_in_it_yet(samples, toy):
    known = {text.lower() for text in toy.query_texts}
    for asked, told in samples["next query"]:
        assert told[-1] == "</s>" and " ".join(told[:-1]) in known
        assert len(asked) > 1 and asked[0] in (REC_ITEM, SRC_QUERY)
    assert len({tuple(told) for _, told in samples["next query"]}) > 1


def test_a_pseudo_query_has_words_of_its_item(samples, six, toy):
    language = six[2]
    for asked, told in samples["pseudo-query"]:
        assert asked[0] == SRC_QUERY and asked[1] == "item"
        assert told == written(toy, language, "search", int(asked[2]))


def test_text_and_id_are_of_one_item_in_both_directions(samples, six, toy):
    language = six[2]
    task_of = {marker: task for task, marker in MARKERS.items()}
    for asked, told in samples["text to ID"]:
        assert asked[:2] == [ITEM_TEXT, "item"]
        assert told == written(toy, language, task_of[asked[-1]], int(asked[2]))
    assert {asked[-1] for asked, _ in samples["text to ID"]} == set(MARKERS.values())
    for asked, told in samples["ID to text"]:
        assert told[0] == "item" and told[2:] == ["</s>"]
        assert asked[:-1] in [written(toy, language, task, int(told[1])) for task in MARKERS]


def test_an_epoch_of_six_is_that_of_two_and_more(six, teach, with_recipe, toy):
    backbone, model, language = six
    pairs = backbone.draw(toy.histories, language, np.random.default_rng(0))
    two = T5Backbone(with_recipe()).draw(toy.histories, language, np.random.default_rng(0))
    assert pairs[: len(two)] == two and len(pairs) == len(two) + 4
    model.eval()
    batch = backbone.collate(pairs[-6:], pad=language.tokenizer.pad_token_id)
    for row, pair in enumerate(pairs[-6:]):
        assert batch["labels"][row][batch["labels"][row] != -100].tolist() == pair.sid
    n_tokens = torch.tensor([len(pair.sid) for pair in pairs[-6:]])
    one_by_one = torch.stack([backbone.loss(model, backbone.collate([pair], pad=0)) for pair in pairs[-6:]])
    expected = (one_by_one * n_tokens).sum() / n_tokens.sum()  # a mean over tokens, as in the paper
    torch.testing.assert_close(backbone.loss(model, batch), expected, rtol=1e-5, atol=1e-5)


def test_only_the_tokenizer_of_six_knows_the_texts(toy):
    assert ITEM_TEXT not in make_tokenizer(toy.query_texts).get_vocab()
    assert {"item", "39", ITEM_TEXT} <= set(tokenizer_of_six(toy).get_vocab())
    assert set(make_tokenizer(toy.query_texts).get_vocab()) < set(tokenizer_of_six(toy).get_vocab())


def test_what_a_backbone_cannot_do(with_recipe):
    with pytest.raises(InvalidValueError, match=r"expected --training-tasks two, got six\. Pass --backbone t5\."):
        check_training_tasks(with_recipe(training_tasks="six"), "causal")
    check_training_tasks(recipe_for("tiny", "causal"), "causal")
