import re

import numpy as np
import pytest
from oracles import all_codes_oracle
from sklearn.utils.estimator_checks import parametrize_with_checks

from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.quantizers import ProductKMeans


# The check of array API inputs runs only under SCIPY_ARRAY_API=1; left to itself it warns that it was skipped.
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input:sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([ProductKMeans(1, 2)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.fixture(scope="module", params=[None, "opq"])
def fitted(request, X):
    """5 levels on 32 columns: slices of 7, 7, 6, 6 and 6."""
    return ProductKMeans(5, (8, 6, 5, 4, 4), rotation=request.param).fit(X)


def test_codebooks_add_up_to_the_decoded_embedding(X, fitted):
    codes = fitted.encode(X[:50])
    assert [book.shape for book in fitted.codebooks] == [(size, 32) for size in (8, 6, 5, 4, 4)]
    expected = sum(book[codes[:, level]].astype(np.float64) for level, book in enumerate(fitted.codebooks))
    np.testing.assert_allclose(fitted.decode(codes), expected, atol=1e-6)


def test_candidates_are_the_best_of_all_combinations(X, fitted):
    codes, cost = fitted.candidates(X[:60], count=30, beam=1)
    rows, distance = all_codes_oracle(X[:60], fitted.codebooks)
    np.testing.assert_allclose(cost, np.sort(distance, axis=1)[:, :30], atol=1e-5)
    keys = np.ravel_multi_index(np.moveaxis(codes, -1, 0), fitted.codebook_sizes)
    np.testing.assert_allclose(np.take_along_axis(distance, keys, axis=1), cost, atol=1e-5)
    assert (np.diff(np.sort(keys, axis=1), axis=1) > 0).all() and len(rows) == 8 * 6 * 5 * 4 * 4
    np.testing.assert_array_equal(codes[:, 0], fitted.encode(X[:60]))


def test_without_a_rotation_a_level_sees_only_its_columns(X):
    books = ProductKMeans(5, 8).fit(X).codebooks
    ends = [0, 7, 14, 20, 26, 32]
    for level, book in enumerate(books):
        outside = np.ones(32, bool)
        outside[ends[level] : ends[level + 1]] = False
        assert not book[:, outside].any() and book[:, ~outside].any()


def test_the_rotation_is_orthonormal_and_lowers_the_distortion(rng):
    strong = np.r_[np.full(4, 5.0), np.full(12, 0.3)]  # all variance in the first slice
    X = (rng.normal(size=(1500, 16)) * strong).astype(np.float32)
    plain, rotated = (ProductKMeans(4, 8, rotation=rotation).fit(X) for rotation in (None, "opq"))
    assert plain.rotation_ is None
    np.testing.assert_allclose(rotated.rotation_.T @ rotated.rotation_, np.eye(16), atol=1e-5)
    distortions = [((X - q.decode(q.encode(X))) ** 2).sum(axis=1).mean() for q in (plain, rotated)]
    assert distortions[1] < 0.6 * distortions[0]


def test_batches_move_the_centroids(X, fitted):
    before = [np.array(book) for book in fitted.codebooks]
    quantizer = ProductKMeans(5, 8, rotation=fitted.rotation)
    for batch in np.array_split(X, 4):
        quantizer.partial_fit(batch)
    assert ((X - quantizer.decode(quantizer.encode(X))) ** 2).sum() < 1.2 * (
        (X - fitted.decode(fitted.encode(X))) ** 2
    ).sum()
    np.testing.assert_array_equal(before[0], fitted.codebooks[0])


@pytest.mark.parametrize(
    "params, text",
    [
        ({"rotation": "pca"}, "rotation is unknown: expected None or 'opq', got 'pca'. Choose one of them."),
        ({"n_levels": 33}, "n_levels is too large: expected at most 32, the dim, got 33. Lower it"),
        ({"n_levels": 0}, "n_levels is too small: expected 1 or more, got 0."),
    ],
)
def test_wrong_parameters_are_refused_by_fit(X, params, text):
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        ProductKMeans(**{"codebook_size": 4} | params).fit(X)


def test_a_refused_fit_leaves_it_as_it_was(X):
    quantizer = ProductKMeans(4, 8).fit(X)
    before = quantizer.encode(X)
    fresh = ProductKMeans(4, 8)
    for each in (quantizer, fresh):
        with pytest.raises(InvalidValueError, match="n_levels is too large: expected at most 3, the dim, got 4"):
            each.fit(X[:, :3])
    np.testing.assert_array_equal(quantizer.encode(X), before)
    for verb in (fresh.fit, ProductKMeans(4, 8).partial_fit):
        with pytest.raises(InvalidValueError, match="n_levels is too large"):
            verb(X[:, :3])
    assert fresh.partial_fit(X).dim == X.shape[1]


@pytest.mark.parametrize("rotation", [["opq"], np.zeros(2), 3])
def test_a_rotation_that_is_no_name_is_refused(X, rotation):
    with pytest.raises(InvalidTypeError, match="rotation has a wrong type: expected None or 'opq', got "):
        ProductKMeans(4, 8, rotation=rotation).fit(X)


def test_a_rotation_of_another_dim_is_refused(X, fitted, tmp_path):
    from semid.io.persistence import read_folder, write_folder

    if fitted.rotation is None:
        pytest.skip("only a rotated one has a rotation")
    fitted.save_pretrained(tmp_path / "a")
    config, arrays = read_folder(tmp_path / "a", class_name="ProductKMeans")
    arrays["rotation"] = np.eye(3, dtype=np.float32)
    write_folder(tmp_path / "a", class_name="ProductKMeans", config=config, arrays=arrays, card="")
    with pytest.raises(FormatError, match=r"rotation of shape \(3, 3\), not \(32, 32\)"):
        ProductKMeans.from_pretrained(tmp_path / "a")
