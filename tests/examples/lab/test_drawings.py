"""The notebook's beams are those of semid.generate, and its pictures say what the arrays say."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from gensar.lab.drawings import Beam, beam_levels, beam_steps, could_become, id_strips, title_tree
from gensar.models import CausalBackbone, T5Backbone
from gensar.output import BLUE, GREY, ORANGE
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


@pytest.fixture(params=[CausalBackbone, T5Backbone], ids=["causal", "t5"])
def asked(request, teach, recipe, identifiers):
    """(model, prompt, trie, vocab) with two requests' worth of tokens in the prompt."""
    model, language = teach(request.param(recipe))
    prompt = [*language.rec_head, *language.id_tokens["recommendation"][7].tolist(), *language.search_heads[1]]
    return model.eval(), prompt, identifiers.sids.trie("semantic"), language.vocabs["semantic"]


@pytest.mark.parametrize("num_beams", [1, 5, 60])
def test_beams_are_those_of_generate(asked, num_beams):
    model, prompt, trie, vocab = asked
    exclude = [0, 3, 17, 18, 39]
    steps = beam_steps(model, prompt, trie=trie, vocab=vocab, num_beams=num_beams, exclude=exclude)
    inputs = {"input_ids": torch.tensor([prompt]), "attention_mask": torch.ones(1, len(prompt), dtype=torch.long)}
    out = semid.generate(model, inputs, trie=trie, vocab=vocab, num_beams=num_beams, exclude=[exclude])
    n_valid = int(out.n_valid[0])
    assert [beam.ranks.start for beam in steps[-1]] == out.items[0, :n_valid].tolist()
    assert [beam.codes for beam in steps[-1]] == [tuple(codes) for codes in out.codes[0, :n_valid].tolist()]
    assert [beam.score for beam in steps[-1]] == pytest.approx(out.scores[0, :n_valid].tolist(), abs=1e-4)
    assert n_valid == min(num_beams, 35)


def test_a_beam_comes_from_its_parent_and_tells_its_items(asked):
    model, prompt, trie, vocab = asked
    steps = beam_steps(model, prompt, trie=trie, vocab=vocab, num_beams=6)
    assert len(steps) == trie.n_levels and all(beam.parent == 0 for beam in steps[0])
    for before, after in pairwise(steps):
        for beam in after:
            parent = before[beam.parent]
            assert beam.codes[:-1] == parent.codes and beam.score < parent.score
            assert set(beam.ranks) <= set(parent.ranks)
    for beams in steps:
        assert [beam.score for beam in beams] == sorted((beam.score for beam in beams), reverse=True)
        for beam in beams:
            starts = [tuple(codes) for codes in trie.codes_of(list(beam.ranks))[:, : len(beam.codes)].tolist()]
            assert starts and set(starts) == {beam.codes}
    assert all(len(beam.ranks) == 1 for beam in steps[-1])
