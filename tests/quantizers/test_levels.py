import numpy as np
import pytest

from semid import KMeans, ResidualKMeans
from semid.errors import InvalidValueError
from semid.quantizers.levels import absorb_levels, train_levels


def test_what_is_absorbed_counts(X):
    learnt = train_levels(ResidualKMeans(2, 8), X.copy(), (8, 8), np.random.default_rng(0))
    more = absorb_levels(X[:50].copy(), learnt)
    assert [int(count.sum()) for count in learnt.counts] == [len(X)] * 2
    assert [int(count.sum()) for count in more.counts] == [len(X) + 50] * 2


def test_a_capacity_that_cannot_hold_all_rows_is_refused(X):
    with pytest.raises(InvalidValueError, match="capacity is too small: expected"):
        train_levels(KMeans(8, capacity=1), X.copy(), (8,), np.random.default_rng(0))
