import matplotlib.pyplot as plt
import numpy as np
import pytest

from semid.errors import InvalidTypeError, InvalidValueError
from semid.plots import collision_sizes


def codes_of_groups(sizes):
    return np.repeat(np.arange(len(sizes)), sizes)[:, None]


def bars(ax):
    return [round(bar.get_height(), 9) for bar in ax.patches]


def test_bars_are_shares_of_the_items_by_size_of_their_group():
    ax = collision_sizes(codes_of_groups([1] * 6 + [2, 2] + [3, 4] + [9, 14]))
    assert bars(ax) == pytest.approx([15, 10, 17.5, 0, 57.5])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        "1",
        "2",
        "3\N{EN DASH}4",
        "5\N{EN DASH}8",
        "9\N{EN DASH}16",
    ]
    assert [text.get_text() for text in ax.texts] == [
        "6 items\n6 IDs",
        "4 items\n2 IDs",
        "7 items\n2 IDs",
        "23 items\n2 IDs",
    ]
    assert ax.get_title() == "collision rate 70.0%, largest group 14"


def test_unique_ids_are_one_bar():
    ax = collision_sizes(codes_of_groups([1] * 5))
    assert bars(ax) == [100]
    assert ax.get_title() == "collision rate 0.0%, largest group 1"


def test_long_counts_are_short():
    texts = collision_sizes(codes_of_groups([1] * 123_456 + [60_000])).texts
    assert [text.get_text() for text in texts] == ["123k items\n123k IDs", "60.0k items\n1 ID"]


@pytest.mark.parametrize("sizes", [[1], [1, 2], [9999] * 3 + [1] * 500, [2**i for i in range(18)]], ids=len)
def test_nothing_is_cut_off(sizes, nothing_is_cut_off):
    nothing_is_cut_off(collision_sizes(codes_of_groups(sizes)))


def test_the_callers_axes_are_used_and_returned():
    _, ax = plt.subplots()
    assert collision_sizes([[0], [1]], ax=ax) is ax


def test_codes_are_checked():
    with pytest.raises(InvalidValueError, match=r"codes have a wrong shape"):
        collision_sizes([1, 2])
    with pytest.raises(InvalidTypeError, match=r"codes has a wrong dtype"):
        collision_sizes([[0.5]])
