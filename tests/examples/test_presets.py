"""Every preset can be built."""

import dataclasses

import pytest
import torch
from gensar.language import make_tokenizer
from gensar.models import BACKBONE_OF
from gensar.presets import BACKBONES, PRESETS, TASKS, check_recipe, only_tasks, recipe_for

from semid.errors import InvalidValueError


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_model_of_every_preset_is_constructible(preset, backbone):
    recipe = recipe_for(preset, backbone)
    with torch.device("meta"):  # the paper's sizes without their memory
        model = BACKBONE_OF[backbone](recipe).build(make_tokenizer(["movies action"]))
    assert model.get_input_embeddings().weight.shape[1] == recipe.hidden_size
    assert recipe.n_steps >= recipe.n_validations >= 1


def test_the_paper_preset_has_the_papers_sizes():
    recipe = recipe_for("paper", "t5")
    with torch.device("meta"):
        model = BACKBONE_OF["t5"](recipe).build(make_tokenizer(["movies action"]))
    config = model.config
    assert (config.d_model, config.d_ff, config.num_layers, config.num_decoder_layers) == (512, 2048, 6, 6)
    assert (recipe.n_shared, recipe.n_specific, recipe.codebook_size, recipe.num_beams) == (2, 2, 256, 30)


def test_one_task_alone_is_written_in_its_own_form():
    recipe = recipe_for("tiny", "causal")
    assert only_tasks(recipe, "both") == recipe
    assert [only_tasks(recipe, task).search_share for task in TASKS] == [recipe.search_share, 0.0, 1.0]
    assert [only_tasks(recipe, task).search_by for task in TASKS] == [recipe.search_by, "search", "search"]


def test_who_may_have_soft_inputs(with_recipe):
    for backbone in BACKBONES:
        check_recipe(recipe_for("small", backbone), backbone)
    with pytest.raises(InvalidValueError, match=r"expected --inputs tokens, got soft\. Pass --backbone causal"):
        check_recipe(with_recipe(inputs="soft"), "t5")
    with pytest.raises(InvalidValueError, match=r"--inputs is unknown: expected one of .*, got 'hard'"):
        check_recipe(with_recipe(inputs="hard"), "causal")


@pytest.mark.parametrize(
    ("n_recent", "backbone", "message"),
    [
        (5, "causal", r"learns from whole histories: expected no --recent, got 5\. Pass --backbone t5\."),
        (0, "t5", r"--recent is too small: expected at least 1, got 0\."),
    ],
)
def test_who_may_have_short_histories(n_recent, backbone, message):
    recipe = dataclasses.replace(recipe_for("tiny", backbone), n_recent=n_recent)
    with pytest.raises(InvalidValueError, match=message):
        check_recipe(recipe, backbone)
    check_recipe(dataclasses.replace(recipe_for("tiny", "t5"), n_recent=3), "t5")
