import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from semid.errors import InvalidTypeError, InvalidValueError
from semid.plots import projection
from semid.plots.style import PALETTE


def drawn(ax):
    dots = ax.collections[0]
    return np.asarray(dots.get_offsets()), dots.get_facecolor()


def test_dots_are_the_two_strongest_principal_axes(rng):
    X = rng.standard_normal((50, 4)) * [1, 5, 0.1, 2] + 7
    ax = projection(X, np.zeros((50, 1), dtype=int))
    points, _ = drawn(ax)
    centred = X - X.mean(axis=0)
    left, spread, _ = np.linalg.svd(centred, full_matrices=False)
    expected = (left * spread)[:, :2]
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-5)
    share = spread**2 / (spread**2).sum()
    assert ax.get_xlabel() == f"principal axis 1 ({share[0]:.1%} of the variance)"
    assert ax.get_ylabel() == f"principal axis 2 ({share[1]:.1%} of the variance)"
    assert ax.get_title() == "50 items, 1 first codes"


def test_few_codes_have_colors_of_the_palette(rng):
    codes = np.arange(30)[:, None] % 3 + 5
    _, colors = drawn(projection(rng.standard_normal((30, 2)), codes))
    for color, (code,) in zip(colors, codes, strict=True):
        assert tuple(color[:3]) == to_rgb(PALETTE[code - 5])


def test_many_codes_are_colored_by_their_place():
    X = np.stack([np.arange(40), np.zeros(40)], axis=1) * 1.0
    X[1::2, 1] = 0.5
    codes = np.arange(40)[:, None] // 2
    _, colors = drawn(projection(X, codes))
    assert (colors[::2] == colors[1::2]).all()  # the two items of a code
    redness = colors[:, 0] - colors[:, 2]
    points = drawn(projection(X, codes))[0][:, 0]
    assert np.corrcoef(redness, points)[0, 1] > 0.9


def test_numbers_stand_at_the_medians_of_the_fullest_codes(rng, nothing_is_cut_off):
    codes = rng.integers(0, 200, (3000, 2))
    X = rng.standard_normal((200, 5))[codes[:, 0]] * 5 + rng.standard_normal((3000, 5))
    ax = projection(X, codes)
    nothing_is_cut_off(ax)
    assert 30 < len(ax.texts) < 200
    points, _ = drawn(ax)
    fullest = np.bincount(codes[:, 0]).argmax()
    text = next(text for text in ax.texts if text.get_text() == str(fullest))
    np.testing.assert_allclose(text.get_position(), np.median(points[codes[:, 0] == fullest], axis=0))


def test_a_seeded_sample(rng):
    X, codes = rng.standard_normal((100, 3)), rng.integers(0, 4, (100, 2))
    one, again, other = (drawn(projection(X, codes, sample=20, seed=seed))[0] for seed in (0, 0, 1))
    assert one.shape == (20, 2)
    assert (one == again).all() and (one != other).any()
    assert projection(X, codes, sample=20).get_title() == "100 items (20 shown), 4 first codes"


def test_a_file_is_read(tmp_path, rng):
    X, codes = rng.standard_normal((20, 3)).astype(np.float16), rng.integers(0, 4, (20, 2))
    np.save(tmp_path / "X.npy", X)
    assert (drawn(projection(tmp_path / "X.npy", codes))[0] == drawn(projection(X, codes))[0]).all()


@pytest.mark.parametrize("X", [[[1.0, 2.0]], [[3.0], [4.0]], np.ones((5, 3))], ids=["item", "dim 1", "equal"])
def test_degenerate_embeddings(X, nothing_is_cut_off):
    nothing_is_cut_off(projection(X, np.zeros((len(X), 1), dtype=int)))


def test_the_callers_axes_are_used_and_returned(rng):
    ax = plt.figure(layout="constrained").subfigures(1, 2)[0].subplots()
    assert projection(rng.standard_normal((9, 2)), np.zeros((9, 1), dtype=int), ax=ax) is ax


def test_wrong_arguments():
    with pytest.raises(
        InvalidValueError, match=r"codes and embeddings disagree: expected 3 rows of codes, got 2\. Pass"
    ):
        projection(np.eye(3), [[0], [1]])
    with pytest.raises(InvalidValueError, match=r"sample is too small: expected 1 or more, got 0\. Raise it\."):
        projection(np.eye(2), [[0], [1]], sample=0)
    with pytest.raises(InvalidTypeError, match=r"sample is not an integer: expected 1 or more, got 1\.5\."):
        projection(np.eye(2), [[0], [1]], sample=1.5)
    with pytest.raises(InvalidValueError, match=r"seed is too small: expected 0 or more, got -1\."):
        projection(np.eye(2), [[0], [1]], seed=-1)
