import numpy as np
import pytest
from oracles import sinkhorn_oracle

import semid
from semid.errors import InvalidValueError


def colliding(quantizer, n_items=40, seed=0):
    X = np.random.default_rng(seed).standard_normal((n_items, 3), dtype=np.float32)
    return X, quantizer.encode(X)


def test_one_group_gets_the_codes_of_the_published_procedure(make_quantizer):
    quantizer = make_quantizer((1, 16))
    X = np.random.default_rng(0).standard_normal((5, 3), dtype=np.float32)
    codes = np.zeros((5, 2), dtype=int)
    rest = X - quantizer.codebooks[0]
    distance = ((rest[:, None].astype(np.float64) - quantizer.codebooks[1][None]) ** 2).sum(axis=2)
    expected = sinkhorn_oracle(distance, 0.003, 50)
    assert len(set(expected)) == 5  # so that there is one round
    result = semid.resolve(quantizer, X, codes, policy="sinkhorn")
    assert result.codes[:, 1].tolist() == expected.tolist()
    assert (result.n_collisions_before, result.n_collisions_after) == (4, 0)


def test_only_last_codes_of_collisions_change(make_quantizer):
    quantizer = make_quantizer((4, 16))
    X, codes = colliding(quantizer)
    result = semid.resolve(quantizer, X, policy="sinkhorn")
    assert (result.codes[:, 0] == codes[:, 0]).all()
    unique = np.unique(result.codes, axis=0)
    assert result.n_collisions_after == len(X) - len(unique) < result.n_collisions_before
    assert result.n_moved == (result.codes != codes).any(axis=1).sum()
    assert np.isnan(result.optimality_gap)
    assert np.isnan(result.gap_over_all_ids)


def test_equal_items_stay_together(make_quantizer):
    X = np.repeat(colliding(make_quantizer((4, 16)), 1)[0], 2, axis=0)
    assert semid.resolve(make_quantizer((4, 16)), X, policy="sinkhorn").n_collisions_after == 1


@pytest.mark.parametrize(("shared", "specific"), [((2,), (3, 16)), ((), (16,)), ((2, 16), ())])
def test_views_are_balanced_one_by_one(make_views_quantizer, shared, specific):
    quantizer = make_views_quantizer(shared, specific)
    rng = np.random.default_rng(0)
    X = {view: rng.standard_normal((30, 2), dtype=np.float32) for view in quantizer.views}
    before = quantizer.encode(X)
    result = semid.resolve(quantizer, X, policy="sinkhorn")
    for view in quantizer.views:
        assert (result.codes[view][:, :-1] == before[view][:, :-1]).all()
    left = sum(30 - len(np.unique(rows, axis=0)) for rows in result.codes.values())
    assert result.n_collisions_after == left < result.n_collisions_before


def test_a_quantizer_that_decodes_otherwise(make_quantizer):
    quantizer = make_quantizer((4, 4))
    decode = quantizer.decode
    quantizer.decode = lambda codes: decode(codes) ** 3
    with pytest.raises(
        InvalidValueError, match=r"expected a quantizer whose decode is a sum .* got SumQuantizer\. Choose"
    ):
        semid.resolve(quantizer, colliding(make_quantizer((4, 4)))[0][:5], policy="sinkhorn")
