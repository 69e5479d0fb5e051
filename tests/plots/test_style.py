from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties

from semid.plots import style
from semid.plots.style import cut, font_families, width_of


@pytest.mark.parametrize(
    ("text", "width"),
    [("hair", 4), ("化妆品", 6), ("スキン", 6), ("cafe\N{COMBINING ACUTE ACCENT}", 4), ("Уход", 4), ("", 0)],
)
def test_letters_of_east_asia_are_twice_as_wide(text, width):
    assert width_of(text) == width


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("hair", 4, "hair"), ("hairy", 4, "hai…"), ("化妆品", 6, "化妆品"), ("化妆品", 5, "化妆…"), ("化妆品", 1, "…")],
)
def test_cut_is_never_wider(text, width, expected):
    assert cut(text, width) == expected and width_of(expected) <= width


def test_plain_text_keeps_the_default_font():
    assert font_families("Hair Care") == font_families("Уход за волосами") == list(mpl.rcParams["font.family"])


def test_another_installed_font_has_the_letters_that_the_default_lacks():
    default = font_manager.get_font(font_manager.findfont(FontProperties())).get_charmap()
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    letter = next(
        code for code in font_manager.get_font(folder / "STIXGeneral.ttf").get_charmap()
        if code > 127 and code not in default and not chr(code).isspace()
    )  # fmt: skip
    families = font_families(f"a{chr(letter)}")
    assert families[:-1] == list(mpl.rcParams["font.family"])
    assert letter in font_manager.get_font(font_manager.findfont(FontProperties(family=families[-1:]))).get_charmap()


def test_a_font_that_cannot_be_read_has_no_letters():
    assert style._letters_of("no such font.ttf") == frozenset()
