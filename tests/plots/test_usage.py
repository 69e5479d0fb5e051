import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

import semid
from semid.errors import InvalidTypeError, InvalidValueError, OptionalDependencyError
from semid.plots import codebook_usage


def curves(ax):
    return [patch.get_data() for patch in ax.patches if hasattr(patch, "get_data")]


def test_curves_are_sorted_loads(rng):
    codes = np.stack([rng.integers(0, 6, 90), rng.integers(0, 3, 90)], axis=1)
    first, second = curves(codebook_usage(codes, codebook_sizes=(6, 3)))
    expected = np.sort(np.bincount(codes[:, 0], minlength=6))[::-1] * 6 / 90
    np.testing.assert_allclose(first.values, expected)
    assert first.edges[-1] == second.edges[-1] == 100
    assert first.values.mean() == pytest.approx(1)


def test_dead_codes_lie_on_a_shelf_below_all_others():
    ax = codebook_usage([[0], [0], [1]], codebook_sizes=(4,))
    values = curves(ax)[0].values
    assert values[2] == values[3] < 0.5 * values[1]
    assert "dead" in [text.get_text() for text in ax.texts]
    assert ax.get_ylim()[0] < values[3]
    label = ax.get_legend().get_texts()[0].get_text()
    assert label == "level 0: 2 of 4 codes used, fullest 2.67\N{MULTIPLICATION SIGN}, perplexity 2"


def test_without_dead_codes_there_is_no_shelf():
    assert [text.get_text() for text in codebook_usage([[0], [1]]).texts] == []


def test_the_callers_axes_are_used_and_returned():
    _, ax = plt.subplots()
    assert codebook_usage([[0], [1]], ax=ax) is ax


@pytest.mark.parametrize(
    ("n_items", "sizes"),
    [(1, (1,)), (1, (256, 256)), (5000, (65_536,)), (200, (2, 64, 7)), (50, (4,) * 8), (10, (3,) * 20)],
    ids=str,
)
def test_nothing_is_cut_off_or_covered(rng, n_items, sizes):
    codes = np.stack([rng.integers(0, (size + 1) // 2, n_items) for size in sizes], axis=1)
    ax = codebook_usage(codes, codebook_sizes=sizes)
    ax.figure.canvas.draw()
    figure, legend = ax.figure.bbox, ax.get_legend().get_window_extent()
    for box in (ax.xaxis.label.get_window_extent(), ax.yaxis.label.get_window_extent()):
        assert figure.x0 <= box.x0 and box.x1 <= figure.x1 and figure.y0 <= box.y0 and box.y1 <= figure.y1
    if len(sizes) <= 8:
        for data in curves(ax):
            tops = ax.transData.transform(np.column_stack([data.edges[1:], data.values]))
            assert not ((tops[:, 0] > legend.x0) & (tops[:, 1] > legend.y0)).any()


def test_codes_are_checked():
    with pytest.raises(InvalidValueError, match=r"codes have a wrong shape"):
        codebook_usage([1, 2])
    with pytest.raises(InvalidTypeError, match=r"codes has a wrong dtype"):
        codebook_usage([[0.5]])
    with pytest.raises(InvalidValueError, match=r"expected 0 to 1 at level 0, got 2"):
        codebook_usage([[2]], codebook_sizes=(2,))
    with pytest.raises(
        InvalidTypeError, match=r"codebook_sizes has a wrong type: expected a sequence of integers, got"
    ):
        codebook_usage([[2]], codebook_sizes=16)


def test_matplotlib_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(OptionalDependencyError, match=r"Run pip install 'semid\[plot\]'"):
        semid.plots.codebook_usage([[0]])


def test_matplotlib_is_not_imported_before_a_picture_is_drawn():
    program = "import semid.plots, sys; print('matplotlib' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
