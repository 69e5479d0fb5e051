import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import SumQuantizer, least_assignment_oracle

import semid
from semid.errors import InvalidTypeError, InvalidValueError


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 2), st.integers(0, 3))
def test_it_is_the_least_distortion_among_ids_with_the_same_first_codes(seed, n_moved, capacity, n_taken):
    rng = np.random.default_rng(seed)
    quantizer = SumQuantizer([rng.standard_normal((2, 3)) for _ in range(3)])
    X = rng.standard_normal((6, 3), dtype=np.float32)
    codes = quantizer.encode(X)
    taken = quantizer.ids[rng.choice(len(quantizer.ids), n_taken, replace=False)]
    in_use = (quantizer.ids[:, None] == taken[None]).all(axis=2).sum(axis=1)
    cost = ((X[:, None].astype(np.float64) - quantizer.decode(quantizer.ids)[None]) ** 2).sum(axis=2)
    kept = 3 - n_moved
    cost[(codes[:, None, :kept] != quantizer.ids[None, :, :kept]).any(axis=2)] = np.inf
    least = least_assignment_oracle(cost, capacity - in_use)
    options = {"capacity": capacity, "taken": taken, "max_level_moved": n_moved}
    if least is None:
        with pytest.raises(InvalidValueError, match=r"do(es)? not fit"):
            semid.resolve(quantizer, X, codes, **options)
        return
    resolution = semid.resolve(quantizer, X, codes, **options)
    np.testing.assert_array_equal(resolution.codes[:, :kept], codes[:, :kept])
    _, counts = np.unique(np.concatenate([resolution.codes, taken]), axis=0, return_counts=True)
    assert counts.max() <= capacity
    assert resolution.distortion_after * len(X) == pytest.approx(least, rel=1e-5, abs=1e-6)


def test_a_trained_quantizer_and_shared_duplicates():
    X = np.random.default_rng(0).standard_normal((400, 8), dtype=np.float32)
    X[1] = X[0]
    quantizer = semid.ResidualKMeans(3, 8).fit(X)
    codes = quantizer.encode(X)
    resolution = semid.resolve(quantizer, X, codes, max_level_moved=2, duplicates="share")
    assert resolution.n_collisions_after == 0 and (resolution.codes[0] == resolution.codes[1]).all()
    assert (resolution.codes[:, 0] == codes[:, 0]).all()
    free = semid.resolve(quantizer, X, codes, duplicates="share")
    assert free.distortion_after <= resolution.distortion_after


def test_messages():
    X = np.zeros((5, 3), np.float32)
    quantizer = SumQuantizer([np.eye(2, 3), np.eye(2, 3) / 2])
    cases = [
        (
            InvalidValueError,
            {"max_level_moved": 1},
            r"first codes \(0,\): expected at most 4 .*, got 5, ",
        ),
        (InvalidValueError, {"max_level_moved": 3}, r"expected 1 \.\. 2 levels, got 3\. Leave it out"),
        (InvalidTypeError, {"max_level_moved": 1.5}, r"expected an integer, got 1\.5"),
        (InvalidValueError, {"max_level_moved": 1, "policy": "suffix"}, "policy 'suffix' does not use max_level_moved"),
        (InvalidValueError, {"item_ids": range(5), "policy": "suffix"}, "policy 'suffix' does not use item_ids"),
        (InvalidValueError, {"item_ids": range(4)}, r"item_ids have a wrong length: expected 5, got 4\. Pass one"),
        (
            InvalidValueError,
            {"item_ids": list("abcab")},
            r"item_ids repeat: expected each id once, got \['a', 'b'\] more than once",
        ),
        (InvalidTypeError, {"item_ids": np.ones(5)}, r"item_ids have wrong types: .*, got float\. Convert"),
    ]
    for error, options, message in cases:
        with pytest.raises(error, match=message):
            semid.resolve(quantizer, X, **({"capacity": 2} if "policy" not in options else {}) | options)
