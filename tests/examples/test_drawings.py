"""The notebook's pictures say what the arrays say."""

import numpy as np
import pytest
from gensar.drawings import beam_levels, could_become, id_strips, title_tree
from gensar.figures import BLUE, GREY, ORANGE
from gensar.steps import Beam
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import semid

CODES = np.array([[0, 0, 1], [0, 0, 2], [0, 1, 0], [2, 0, 1]], dtype=np.uint8)
TITLES = ["Alpha", "Beta", "Gamma", "Delta"]


@pytest.fixture
def ax():
    return Figure().subplots()


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_strips_are_blue_as_far_as_ids_agree_from_their_beginning(ax):
    id_strips(ax, TITLES, CODES, header="IDs")
    assert texts(ax) == [str(code) for code in CODES.ravel()]
    blue = np.array([to_hex(box.get_facecolor()) != "#efefef" for box in ax.patches]).reshape(CODES.shape)
    # The last code of Delta is that of Alpha, but not its first.
    assert blue.tolist() == [[True] * 3, [True, True, False], [True, False, False], [False] * 3]
    assert [label.get_text() for label in ax.get_yticklabels()] == TITLES


def test_a_tree_has_a_node_per_prefix_and_the_titles_that_are_left(ax):
    trie = semid.Trie.from_codes(CODES)
    title_tree(ax, trie, TITLES, header="all")
    assert sorted(texts(ax)) == sorted(["0", "2", "0", "1", "0", "1", "2", "0", "1", *TITLES])
    few = Figure().subplots()
    title_tree(few, trie.restrict([0, 3]), TITLES, header="two")
    assert sorted(texts(few)) == sorted(["0", "0", "1", "2", "0", "1", "Alpha", "Delta"])


def test_a_node_stands_in_the_middle_of_its_leaves(ax):
    title_tree(ax, semid.Trie.from_codes(CODES), TITLES, header="all")
    places = {(text.get_text(), *text.get_position()) for text in ax.texts}
    assert {("0", 1, 1.0), ("2", 1, 3.0), ("0", 2, 0.5), ("1", 2, 2.0)} <= places


def test_beams_tell_what_they_are_and_which_hold_the_wanted_item(ax):
    steps = [
        [Beam((0,), -1.0, 0, range(0, 3)), Beam((2,), -2.0, 0, range(3, 4))],
        [Beam((0, 0), -1.5, 0, range(0, 2)), Beam((0, 1), -1.75, 0, range(2, 3))],
    ]
    beam_levels(ax, steps, lambda beam: f"{len(beam.ranks)} items", header="search", wanted=2)
    assert texts(ax) == [
        "prompt",
        "(0)   -1.00\n3 items",
        "(2)   -2.00\n1 items",
        "(0, 0)   -1.50\n2 items",
        "(0, 1)   -1.75\n1 items",
    ]
    # Orange: can become rank 2. Grey: nothing goes on from it.
    edges = [to_hex(box.get_edgecolor()).upper() for box in ax.patches]
    assert edges == [ORANGE, GREY, BLUE, ORANGE]
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.5, 0], [0.5, 1], [0, 0], [0, 1]]


def test_without_a_wanted_item_nothing_is_orange(ax):
    beam_levels(ax, [[Beam((0,), -1.0, 0, range(3))]], lambda beam: "", header="search")
    assert [to_hex(box.get_edgecolor()).upper() for box in ax.patches] == [BLUE]


@pytest.mark.parametrize(
    ("n_shown", "expected"), [(1, "Gamma, 2 more"), (2, "Gamma\nAlpha, 1 more"), (3, "Gamma\nAlpha\nBeta")]
)
def test_the_heaviest_items_are_named(n_shown, expected):
    beam = Beam((0,), -1.0, 0, range(0, 3))
    assert could_become(beam, TITLES, [5.0, 5.0, 9.0, 99.0], n_shown=n_shown) == expected
