import numpy as np
import pytest

from semid.quantizers.learnt import column_slices, fit_scaling, standardize
from semid.quantizers.views import check_view_weights, open_views


def test_views_come_in_the_order_of_the_quantizer_and_unread():
    X = {"b": np.full((2, 1), np.nan), "a": np.zeros((2, 3))}
    opened = open_views(X, ("a", "b"))
    assert list(opened) == ["a", "b"] and opened["b"] is X["b"]


@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_scaling_gives_the_weight_as_total_variance(rng, weight):
    X = rng.normal(3, 20, size=(500, 5))
    scaling, sample = fit_scaling(X, np.arange(500), view="a", weight=weight)
    assert (sample**2).sum(axis=1).mean() == pytest.approx(weight, rel=1e-5)
    np.testing.assert_allclose(sample / scaling.factor + scaling.mean, X, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(standardize(X, slice(0, None), scaling, view="a"), sample)


def test_scaling_sees_only_the_rows_given(rng):
    X = rng.normal(size=(10, 2))
    X[5:] = np.nan
    scaling, sample = fit_scaling(X, np.arange(5), view="a", weight=1.0)
    np.testing.assert_allclose(scaling.mean, X[:5].mean(axis=0), rtol=1e-5)
    assert sample.shape == (5, 2)


def test_weights_default_to_1():
    assert check_view_weights({"b": 2}, ("a", "b")) == {"a": 1.0, "b": 2.0}


def test_columns_follow_each_other():
    assert column_slices({"a": 3, "b": 1, "c": 2}) == {"a": slice(0, 3), "b": slice(3, 4), "c": slice(4, 6)}
