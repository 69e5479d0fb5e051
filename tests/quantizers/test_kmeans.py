import numpy as np
import pytest
from sklearn.cluster import KMeans as ReferenceKMeans
from sklearn.utils.estimator_checks import parametrize_with_checks

from semid.quantizers import KMeans


# The check of array API inputs runs only under SCIPY_ARRAY_API=1; left to itself it warns that it was skipped.
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input:sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([KMeans(2)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.mark.parametrize("init", ["progressive", "k-means++", "random"])
def test_distortion_is_near_that_of_scikit_learn(X, init):
    reference = ReferenceKMeans(32, n_init=1, random_state=0).fit(X)
    quantizer = KMeans(32, init=init).fit(X)
    _, cost = quantizer.candidates(X, count=1, beam=1)
    assert cost.sum() < (1.06 if init == "random" else 1.03) * reference.inertia_


def test_candidates_are_the_nearest_centroids_in_order(X):
    quantizer = KMeans(16).fit(X)
    codes, cost = quantizer.candidates(X[:100], count=5, beam=1)
    distance = ((X[:100, None].astype(np.float64) - quantizer.codebooks[0]) ** 2).sum(axis=2)
    np.testing.assert_allclose(cost, np.sort(distance, axis=1)[:, :5], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(distance, codes[..., 0].astype(int), 1), cost, atol=1e-5)


def test_codes_are_those_of_one_level(X, tmp_path):
    quantizer = KMeans("auto").fit(X)
    assert quantizer.codebook_sizes == (32,) and quantizer.n_levels == 1
    assert quantizer.encode(X).shape == (2000, 1)
    assert quantizer.get_feature_names_out().tolist() == ["kmeans0"]
    quantizer.save_pretrained(tmp_path)
    assert KMeans.from_pretrained(tmp_path).codebook_size == 32
