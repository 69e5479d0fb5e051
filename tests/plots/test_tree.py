import matplotlib.pyplot as plt
import numpy as np
import pytest

from semid.errors import InvalidValueError
from semid.plots import prefix_tree


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
    assert shown[:3] == ["1\nnails\n67%", "2\nbalm\n50%", "0\nhair\n100%"]


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
    with pytest.raises(
        InvalidValueError, match=r"max_depth is too small: expected at least 1, got 0\. Raise max_depth"
    ):
        prefix_tree(CODES, max_depth=0)
    with pytest.raises(InvalidValueError, match=r"codes have a wrong shape"):
        prefix_tree([1, 2])
