"""Which device is taken, and which folder a run without --out writes to."""

import dataclasses
from pathlib import Path

import pytest
import torch
from gensar.options import Options, check_device, default_folder
from gensar.presets import recipe_for

from semid.errors import InvalidValueError


def test_auto_is_the_gpu_where_there_is_one():
    assert check_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert check_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["quantum", "cuda:97"])
def test_a_missing_device_is_named(name):
    with pytest.raises(
        InvalidValueError, match=rf"--device cannot be used: expected auto, cpu .*got '{name}'.*Leave it"
    ):
        check_device(name)


def test_the_folder_tells_what_was_run(toy):
    options = Options(
        data=None, preset="tiny", backbone="t5", recipe=recipe_for("tiny", "t5"), seed=3, out=None, resume=False,
        device="cpu",
    )  # fmt: skip
    assert default_folder(toy, options) == Path("runs/toy-tiny-t5-shared-specific-kmeans-seed3")


def test_the_folder_tells_the_switches_that_were_turned(toy):
    recipe = dataclasses.replace(recipe_for("tiny", "t5"), tasks="search", n_recent=5, num_beams=30, policy="suffix")
    options = Options(
        data=None, preset="tiny", backbone="t5", recipe=recipe, seed=3, out=None, resume=False, device="cpu",
        evaluation="candidates", decoder="hf",
    )  # fmt: skip
    name = "toy-tiny-t5-shared-specific-kmeans-search-recent5-suffix-beams30-candidates-hf-seed3"
    assert default_folder(toy, options) == Path("runs") / name
