"""What all plots share: axes, texts, and colours that colour-blind readers can tell apart."""

import functools
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from semid._optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "CHARACTER_WIDTH",
    "FONT_POINTS",
    "GREY",
    "PALETTE",
    "Color",
    "Room",
    "axes_or_new",
    "cut",
    "font_families",
    "room",
    "tint",
    "width_of",
    "write",
]

# Okabe and Ito, "Color Universal Design" (2008), without black and without the yellow that is faint on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
GREY = "#767676"

Color = tuple[float, float, float]

FONT_POINTS = 8.0
# Width of a character and height of a line, divided by the font size; upper estimates for the default font.
CHARACTER_WIDTH, LINE_HEIGHT = 0.64, 1.3


def axes_or_new(ax: "Axes | None", *, size: tuple[float, float]) -> "Axes":
    """Return `ax`, or the Axes of a new figure of `size` (width, height in inches) that leaves room for all text."""
    if ax is not None:
        return ax
    _, new = require("matplotlib.pyplot", extra="plot").subplots(figsize=size, layout="constrained")
    return new  # type: ignore[no-any-return]


def tint(color: "str | Color", share: float) -> Color:
    """Return a colour mixed with a share of white, as red, green and blue between 0 and 1."""
    rgb = require("matplotlib.colors", extra="plot").to_rgb(color)
    red, green, blue = (part + (1 - part) * share for part in rgb)
    return red, green, blue


def width_of(text: str) -> int:
    """Return the width of a text in Latin letters: East Asian letters count twice, combining marks not at all."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def cut(text: str, width: int) -> str:
    """Return a text cut to the width of so many Latin letters, with an ellipsis at the end if it was cut."""
    if width_of(text) <= width:
        return text
    kept = text
    while kept and width_of(kept) >= width:
        kept = kept[:-1]
    return kept + "…"


def font_families(text: str) -> list[str]:
    """Return the fonts for a text: the default fonts, then installed fonts that have the letters these lack.

    If no font has a letter, Matplotlib draws a box and warns.
    """
    default = list(require("matplotlib", extra="plot").rcParams["font.family"])
    missing = frozenset(letter for letter in text if ord(letter) > 127)
    return [*default, *_other_fonts(tuple(default), missing)] if missing else default


@functools.cache
def _other_fonts(default: tuple[str, ...], letters: frozenset[str]) -> tuple[str, ...]:
    manager = require("matplotlib.font_manager", extra="plot")
    known = manager.get_font(manager.findfont(manager.FontProperties(family=list(default)))).get_charmap()
    missing = {ord(letter) for letter in letters if not letter.isspace()} - known.keys()
    found: list[str] = []
    for entry in sorted(manager.fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        if not missing:
            break
        has = missing & _letters_of(entry.fname)
        if has:
            found.append(entry.name)
            missing -= has
    return tuple(found)


@functools.cache
def _letters_of(path: str) -> frozenset[int]:
    manager = require("matplotlib.font_manager", extra="plot")
    try:
        return frozenset(manager.get_font(path).get_charmap())
    except (OSError, RuntimeError):  # a font that was removed or cannot be read has no letters
        return frozenset()


class Room(NamedTuple):
    """How much text a box holds."""

    n_characters: int  # per line
    n_lines: int
    upright: bool  # whether the lines run from bottom to top


def room(ax: "Axes", box: tuple[float, float, float, float], n_characters: int) -> Room:
    """Return how much text fits into a box (x, y, width, height; data coordinates) at the present size of `ax`.

    Lines run upright if `n_characters` do not fit across and more of them fit upright.
    """
    x, y, width, height = box
    corners = ax.transData.transform([(x, y), (x + width, y + height)])
    across, down = abs(corners[1] - corners[0]) * 72 / ax.figure.canvas.figure.dpi / FONT_POINTS
    # Half a character stays free; otherwise the numbers of neighbours would read as one number.
    level = Room(max(0, int(across / CHARACTER_WIDTH - 0.5)), int(down / LINE_HEIGHT), False)
    upright = Room(max(0, int(down / CHARACTER_WIDTH - 0.5)), int(across / LINE_HEIGHT), True)
    if level.n_lines and level.n_characters >= n_characters:
        return level
    return upright if upright.n_lines and upright.n_characters > level.n_characters else level


def write(
    ax: "Axes", lines: list[str], box: tuple[float, float, float, float], *, background: Color, clear: bool = False
) -> None:
    """Write lines into a box and cut them to fit; write nothing if the first line does not fit as a whole.

    `clear` paints the background under the text, for boxes that are hatched.
    """
    space = room(ax, box, max(map(width_of, lines)))
    if space.n_lines < 1 or width_of(lines[0]) > space.n_characters:
        return
    if space.upright and space.n_lines < len(lines):
        lines = [" ".join(lines)]  # a narrow box: everything in one line
    x, y, width, height = box
    shown = [cut(line, space.n_characters) for line in lines[: space.n_lines]]
    ax.text(
        x + width / 2,
        y + height / 2,
        "\n".join(shown),
        ha="center",
        va="center",
        rotation=90 if space.upright else 0,
        fontsize=FONT_POINTS,
        fontfamily=font_families("".join(shown)),
        # Rec. 709 luma.
        color="black" if np.dot(background, (0.2126, 0.7152, 0.0722)) > 0.45 else "white",
        bbox={"facecolor": background, "edgecolor": "none", "pad": 1} if clear else None,
        clip_on=True,
        parse_math=False,
    )
