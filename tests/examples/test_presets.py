"""Every preset can be built."""

import pytest
import torch
from gensar.assembly import BACKBONE_OF
from gensar.language import make_tokenizer
from gensar.presets import BACKBONES, PRESETS, TASKS, only_tasks, recipe_for


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
