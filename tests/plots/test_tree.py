import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from semid.errors import InvalidTypeError, InvalidValueError
from semid.plots import prefix_tree
from semid.plots.style import GREY, PALETTE, tint


def rectangles(ax):
    """Return (left, right, row) of everything drawn, from the top and the left."""
    boxes = [path.get_extents() for bars in ax.collections for path in bars.get_paths()]
    return sorted(((float(box.x0), float(box.x1), int(box.y0)) for box in boxes), key=lambda bar: (bar[2], bar[0]))


def texts(ax):
    return [text.get_text() for text in ax.texts]


CODES = np.array([[0, 1], [1, 0], [1, 2], [1, 2], [2, 0], [2, 1]])


def test_nodes_are_as_wide_as_their_items_and_the_fullest_stands_left():
    ax = prefix_tree(CODES)
    assert rectangles(ax) == [(0, 3, 0), (3, 5, 0), (5, 6, 0), (0, 2, 1), (2, 3, 1), (3, 4, 1), (4, 5, 1), (5, 6, 1)]
    assert texts(ax) == ["1", "2", "0", "2", "0", "0", "1", "1"]
    assert ax.get_xlabel() == "items (in all 6; distinct semantic IDs 5)"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["level 0", "level 1"]
    assert ax.get_ylim() == (2, 0)


def test_the_order_of_items_does_not_matter(rng):
    codes = rng.integers(0, 4, (40, 3))
    assert rectangles(prefix_tree(codes)) == rectangles(prefix_tree(rng.permutation(codes)))


def test_max_depth_cuts_the_tree():
    ax = prefix_tree(CODES, max_depth=1)
    assert rectangles(ax) == [(0, 3, 0), (3, 5, 0), (5, 6, 0)]
    assert ax.get_xlabel().endswith("distinct semantic IDs 5)")
    assert len(prefix_tree(CODES, max_depth=9).get_yticks()) == 2


def test_labels_show_the_majority_and_its_share():
    labels = ["hair", "nails", "nails", "hair", "soap", "balm"]
    shown = texts(prefix_tree(CODES, labels=labels))
    assert shown[:3] == ["0\nhair\n100%", "1\nnails\n67%", "2\nbalm\n50%"]


def colors(ax, row):
    """Return the colours of the rectangles of a row, tinted as they are drawn, from the left."""
    found = [
        (path.get_extents().x0, to_hex(color))
        for bars in ax.collections
        for path, color in zip(
            bars.get_paths(), np.resize(bars.get_facecolor(), (len(bars.get_paths()), 4)), strict=True
        )
        if int(path.get_extents().y0) == row
    ]
    return [color for _, color in sorted(found)]


def test_labels_colour_the_nodes_and_order_them():
    labels = ["hair", "nails", "nails", "hair", "soap", "balm"]
    ax = prefix_tree(CODES, labels=labels)
    legend = {text.get_text(): to_hex(patch.get_facecolor()) for text, patch in zip(
        ax.get_legend().get_texts(), ax.get_legend().get_patches(), strict=True
    )}  # fmt: skip
    assert list(legend) == ["hair", "nails", "balm", "soap"] and list(legend.values()) == list(
        map(str.lower, PALETTE[:4])
    )
    assert colors(ax, 0) == [legend["hair"], legend["nails"], legend["balm"]]
    # Below 0: hair. Below 1: code 2 with nails and hair, of which the first in the alphabet counts, then code 0, nails.
    names = ("hair", "hair", "nails", "balm", "soap")
    assert sorted(colors(ax, 1)) == sorted(to_hex(tint(legend[name], 0.65 / 2)) for name in names)


def test_labels_beyond_the_palette_are_grey():
    labels = [f"label {item // (10 - item // 10)}" for item in range(60)]
    names, counts = np.unique(labels, return_counts=True)
    ax = prefix_tree(np.unique(labels, return_inverse=True)[1][:, None], labels=labels)
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(shown) == 7 and shown[-1] == f"{len(names) - 6} others"
    assert shown[:6] == [str(name) for name in names[np.argsort(-counts, kind="stable")][:6]]
    assert colors(ax, 0)[:6] == [color.lower() for color in PALETTE] and set(colors(ax, 0)[6:]) == {GREY}


def test_narrow_nodes_are_drawn_together_by_label():
    codes = np.concatenate([np.zeros((3000, 1), dtype=int), np.arange(1, 2001)[:, None]])
    ax = prefix_tree(codes, labels=["a"] * 3500 + ["b"] * 1500)
    assert rectangles(ax) == [(0, 3000, 0), (3000, 3500, 0), (3500, 5000, 0)]
    assert texts(ax) == ["500 nodes", "1,500 nodes", "0\na\n100%"]


def test_nothing_is_cut_off_with_labels(nothing_is_cut_off, rng):
    codes = rng.integers(0, 256, (3000, 2))
    ax = prefix_tree(codes, labels=[f"a rather long category, number {code % 9}" for code in codes[:, 0]])
    nothing_is_cut_off(ax)
    legend = ax.get_legend().get_window_extent()
    assert ax.figure.bbox.x0 <= legend.x0 and legend.x1 <= ax.figure.bbox.x1 and legend.y0 >= ax.figure.bbox.y0
    assert legend.y1 <= ax.xaxis.get_tightbbox().y0


def test_long_labels_are_cut_and_mathematics_is_text():
    shown = texts(prefix_tree([[0], [1], [2]], labels=["$a_" + 200 * "x", "b$", "c"]))
    assert shown[0].startswith("0\n$a_x") and "x…\n" in shown[0]
    prefix_tree([[0]], labels=["$\\frac$"]).figure.canvas.draw()


def test_narrow_nodes_are_drawn_together():
    codes = np.concatenate([np.zeros((3000, 2), dtype=int), [[1, code] for code in range(2000)]])
    ax = prefix_tree(codes)
    assert rectangles(ax) == [(0, 3000, 0), (3000, 5000, 0), (0, 3000, 1), (3000, 5000, 1)]
    assert texts(ax) == ["0", "1", "2,000 nodes", "0"]


@pytest.mark.parametrize(
    ("n_items", "sizes"),
    [(1, (1,)), (1, (9, 9, 9)), (100_000, (65_536,)), (5000, (2, 64, 7)), (500, (4,) * 8)],
    ids=str,
)
def test_each_row_is_covered_once_and_texts_stay_in_their_nodes(rng, n_items, sizes):
    codes = np.stack([rng.integers(0, size, n_items) for size in sizes], axis=1)
    ax = prefix_tree(codes, labels=[f"category {code}" for code in codes[:, 0]])
    ax.figure.canvas.draw()
    bars = rectangles(ax)
    for row in range(len(sizes)):
        lefts, rights = zip(*[bar[:2] for bar in bars if bar[2] == row], strict=True)
        assert lefts == (0, *rights[:-1]) and rights[-1] == n_items
    assert len(bars) < 3000 * len(sizes)
    to_data = ax.transData.inverted()
    for text in ax.texts:
        box = text.get_window_extent().transformed(to_data)
        middle = text.get_position()[0]
        left, right = next(
            bar[:2] for bar in bars if bar[2] == int(text.get_position()[1]) and bar[0] <= middle <= bar[1]
        )
        assert left <= box.x0 and box.x1 <= right
    figure, label = ax.figure.bbox, ax.xaxis.get_tightbbox()
    assert label.x0 >= figure.x0 and label.x1 <= figure.x1 and label.y0 >= figure.y0


def test_the_callers_axes_are_used_even_in_a_subfigure():
    figure = plt.figure(layout="constrained")
    ax = figure.subfigures(1, 2)[0].subplots()
    assert prefix_tree(CODES, ax=ax) is ax


def test_wrong_arguments():
    with pytest.raises(
        InvalidValueError, match=r"labels and codes disagree: expected 6 labels, got 2\. Pass one label"
    ):
        prefix_tree(CODES, labels=["a", "b"])
    with pytest.raises(InvalidValueError, match=r"max_depth is too small: expected 1 or more, got 0\. Raise it"):
        prefix_tree(CODES, max_depth=0)
    for max_depth in (1.5, "1"):
        with pytest.raises(InvalidTypeError, match=r"max_depth is not an integer: expected 1 or more, got .*1"):
            prefix_tree(CODES, max_depth=max_depth)
    with pytest.raises(InvalidValueError, match=r"codes have a wrong shape"):
        prefix_tree([1, 2])
