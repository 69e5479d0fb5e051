"""The picture of the page "Constrained decoding" is drawn from a trie, by the script that stands beside it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

IMAGES = Path(__file__).parent.parent / "docs" / "images"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("draw_constraint", IMAGES / "draw_constraint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_drawn(script, tmp_path):
    script.draw(tmp_path / "constraint.png")
    assert (tmp_path / "constraint.png").stat().st_size > 10_000
    assert (IMAGES / "constraint.png").stat().st_size > 10_000


def test_the_trie_of_the_picture_is_that_of_the_page(script):
    page = (IMAGES.parent / "constrained-decoding.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith("codes = "))
    assert (np.array(eval(line.removeprefix("codes = "))) == script.CODES).all()
