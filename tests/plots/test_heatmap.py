import matplotlib.pyplot as plt
import numpy as np
import pytest

from semid.errors import InvalidTypeError, InvalidValueError
from semid.plots import usage_heatmap

BLACK, WHITE = [0, 0, 0, 1], [1, 1, 1, 1]


def fields(ax):
    """Return the colours of each level, (rows, columns, 4)."""
    return [np.asarray(image.get_array()) for image in ax.images]


def colors_of(ax, loads):
    """Return the colours that the colour bar gives to loads."""
    scale = ax.images[0].figure.axes[-1]._colorbar.mappable
    return scale.to_rgba(np.array(loads))


def test_fields_are_loads_in_the_order_of_the_codes():
    codes = np.array([[0, 1], [0, 2], [3, 2], [1, 2], [1, 0], [1, 0]])
    ax = usage_heatmap(codes, codebook_sizes=(4, 3))
    first, second = fields(ax)
    np.testing.assert_allclose(first.reshape(4, 4)[[0, 1, 3]], colors_of(ax, [2 * 4 / 6, 3 * 4 / 6, 4 / 6]))
    np.testing.assert_allclose(second.reshape(4, 4)[:3], colors_of(ax, [2 * 3 / 6, 3 / 6, 3 * 3 / 6]))
    assert [text.get_text() for text in ax.texts] == ["level 0: 4 codes, 1 dead", "level 1: 3 codes, 0 dead"]


def test_dead_codes_are_black_and_no_code_is_white():
    (painted,) = fields(usage_heatmap([[0], [1]], codebook_sizes=(3,)))
    assert painted.shape == (2, 2, 4)
    assert painted[1].tolist() == [BLACK, WHITE]
    assert WHITE not in painted[0].tolist()


def test_a_code_in_use_never_looks_dead():
    darkest = colors_of(usage_heatmap([[0]]), [1e-9, 1e9])[:, :3]
    assert (darkest.max(axis=1) > 0.4).all()


@pytest.mark.parametrize("sizes", [(1,), (256,) * 3, (65_536, 2), (5, 64, 7, 9), (16,) * 9], ids=str)
def test_nothing_is_cut_off(rng, sizes, nothing_is_cut_off):
    codes = np.stack([rng.integers(0, (size + 1) // 2, 500) for size in sizes], axis=1)
    nothing_is_cut_off(usage_heatmap(codes, codebook_sizes=sizes))


def test_the_callers_axes_are_used_and_returned():
    _, ax = plt.subplots()
    assert usage_heatmap([[0], [1]], ax=ax) is ax


def test_codes_are_checked():
    with pytest.raises(InvalidTypeError, match=r"codes has a wrong dtype"):
        usage_heatmap([[0.5]])
    with pytest.raises(InvalidValueError, match=r"expected 0 to 1 at level 0, got 2"):
        usage_heatmap([[2]], codebook_sizes=(2,))
    with pytest.raises(
        InvalidTypeError, match=r"codebook_sizes has a wrong type: expected a sequence of integers, got"
    ):
        usage_heatmap([[2]], codebook_sizes=16)
