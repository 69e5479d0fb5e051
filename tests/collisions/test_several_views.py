import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import least_assignment_oracle

import semid
from semid.errors import InvalidTypeError, InvalidValueError

NAMES = ("semantic", "collaborative")
fixtures_are_constant = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def views_of(n_items, *, names=NAMES, dim=2, seed=0, identical=False):
    rng = np.random.default_rng(seed)
    X = {name: rng.standard_normal((n_items, dim), dtype=np.float32) for name in names}
    return {name: np.repeat(x[:1], n_items, axis=0) for name, x in X.items()} if identical else X


def assert_resolved(codes, n_shared, *, capacity=1, taken=None):
    first, *others = codes.values()
    for rows in others:
        assert (rows[:, :n_shared] == first[:, :n_shared]).all()
    for view, rows in codes.items():
        everybody = rows if taken is None else np.concatenate([rows, taken[view]])
        assert np.unique(everybody, axis=0, return_counts=True)[1].max() <= capacity


@fixtures_are_constant
@given(
    shared=st.lists(st.integers(1, 4), max_size=2),
    specific=st.lists(st.integers(1, 4), max_size=2),
    capacity=st.integers(1, 2),
    identical=st.booleans(),
    fill=st.sampled_from([0.3, 0.9, 1.0]),
    seed=st.integers(0, 1000),
)
def test_shared_codes_are_common_and_every_view_is_unique(
    make_views_quantizer, shared, specific, capacity, identical, fill, seed
):
    if not shared + specific:
        shared = [2]
    quantizer = make_views_quantizer(shared, specific, seed=seed)
    n_items = max(1, int(fill * capacity * np.prod(shared + specific)))
    X = views_of(n_items, seed=seed, identical=identical)
    result = semid.resolve(quantizer, X, capacity=capacity)
    assert_resolved(result.codes, len(shared), capacity=capacity)
    assert result.n_collisions_after == 0
    assert abs(result.optimality_gap) < 1e-9
    assert result.codebook_sizes == (*shared, *specific)


@fixtures_are_constant
@given(seed=st.integers(0, 1000), n_moved=st.integers(1, 4), n_taken=st.integers(0, 3))
def test_first_codes_stay_where_only_the_last_may_change(make_views_quantizer, seed, n_moved, n_taken):
    quantizer = make_views_quantizer((3, 4), (2, 3), seed=seed)
    X = views_of(10, seed=seed)
    codes = quantizer.encode(X)
    taken = {view: rows[:n_taken] for view, rows in quantizer.encode(views_of(n_taken + 1, seed=seed + 1)).items()}
    kept = 4 - n_moved
    firsts = [np.concatenate([codes[view], taken[view]])[:, :kept] for view in NAMES]
    most = max(np.unique(first, axis=0, return_counts=True)[1].max() for first in firsts)
    too_many = most > np.prod((3, 4, 2, 3)[kept:])
    collides = any(len(np.unique(rows, axis=0)) < n_taken for rows in taken.values())
    if too_many or collides:
        with pytest.raises(InvalidValueError, match=r"do(es)? not fit|collides with itself"):
            semid.resolve(quantizer, X, codes, taken=taken, max_level_moved=n_moved)
        return
    result = semid.resolve(quantizer, X, codes, taken=taken, max_level_moved=n_moved)
    assert_resolved(result.codes, 2, taken=taken)
    for view in NAMES:
        assert (result.codes[view][:, :kept] == codes[view][:, :kept]).all()
    if n_moved == 4:
        free = semid.resolve(quantizer, X, codes, taken=taken)
        assert all((result.codes[view] == free.codes[view]).all() for view in NAMES)


@fixtures_are_constant
@given(seed=st.integers(0, 1000))
def test_within_a_shared_prefix_each_view_gets_its_least_distortion(make_views_quantizer, seed):
    """One level may change: every group of items with the same first codes is an assignment of its own."""
    quantizer = make_views_quantizer((2,), (4,), seed=seed)
    X = views_of(6, seed=seed)
    codes = quantizer.encode(X)
    largest = np.unique(codes["semantic"][:, 0], return_counts=True)[1].max()
    if largest > 4:
        return
    result = semid.resolve(quantizer, X, codes, max_level_moved=1)
    least = 0.0
    for shared in np.unique(codes["semantic"][:, 0]):
        members = np.flatnonzero(codes["semantic"][:, 0] == shared)
        for view in NAMES:
            own = {"semantic": slice(0, 2), "collaborative": slice(2, 4)}[view]
            decoded = quantizer.shared_quantizer.decode(np.array([[shared]]))[:, own]
            decoded = decoded + quantizer.specific_quantizers[view].decode(np.arange(4)[:, None])
            cost = ((X[view][members, None].astype(np.float64) - decoded[None]) ** 2).sum(axis=2)
            least += least_assignment_oracle(cost, np.ones(4, int))
    assert result.distortion_after * len(X["semantic"]) == pytest.approx(least, rel=1e-4)


@fixtures_are_constant
@given(seed=st.integers(0, 1000), n_taken=st.integers(0, 20))
def test_published_ids_stay(make_views_quantizer, short_lists, seed, n_taken):
    quantizer = make_views_quantizer((3,), (2, 4), seed=seed)
    X = views_of(24, seed=seed)
    old = semid.resolve(quantizer, {view: x[:n_taken] for view, x in X.items()}).codes if n_taken else None
    new = semid.resolve(quantizer, {view: x[n_taken:] for view, x in X.items()}, taken=old)
    assert_resolved(new.codes, 1, taken=old)
    assert new.n_collisions_after == 0


def test_a_full_shared_prefix_sends_items_away_in_all_views(make_views_quantizer):
    quantizer = make_views_quantizer((4,), (2, 2))
    X = views_of(10, identical=True)
    result = semid.resolve(quantizer, X)
    assert_resolved(result.codes, 1)
    prefixes = np.bincount(result.codes["semantic"][:, 0], minlength=4)
    nearest = quantizer.shared_quantizer.candidates(np.concatenate(list(X.values()), axis=1)[:1], count=4, beam=4)
    assert prefixes[nearest[0][0, :, 0]].tolist() == [4, 4, 2, 0]  # full, full, the rest, none


def test_items_stay_where_nothing_collides(make_views_quantizer):
    quantizer = make_views_quantizer((4,), (3, 3))
    X = views_of(2, seed=3)
    before = quantizer.encode(X)
    result = semid.resolve(quantizer, X)
    for view in NAMES:
        assert (result.codes[view] == before[view]).all()
    assert (result.n_moved, result.n_collisions_before) == (0, 0)
    assert result.distortion_before == result.distortion_after


def test_distortion_is_summed_over_views(make_views_quantizer):
    quantizer = make_views_quantizer((4,), (3,))
    X = views_of(5)
    result = semid.resolve(quantizer, X)
    total = 0.0
    for at, view in enumerate(NAMES):
        decoded = quantizer.shared_quantizer.decode(result.codes[view][:, :1])[:, 2 * at : 2 * at + 2]
        decoded = decoded + quantizer.specific_quantizers[view].decode(result.codes[view][:, 1:])
        total += ((X[view] - decoded) ** 2).sum(axis=1).mean()
    assert result.distortion_after == pytest.approx(total, rel=1e-5)


def test_without_shared_levels_each_view_is_resolved_alone(make_views_quantizer):
    quantizer = make_views_quantizer((), (3, 3))
    X = views_of(9)
    result = semid.resolve(quantizer, X)
    for view in NAMES:
        alone = semid.resolve(quantizer.specific_quantizers[view], X[view])
        assert (result.codes[view] == alone.codes).all()


def test_without_specific_levels_views_have_the_same_ids(make_views_quantizer):
    quantizer = make_views_quantizer((3, 3), ())
    X = views_of(9)
    result = semid.resolve(quantizer, X)
    joined = semid.resolve(quantizer.shared_quantizer, np.concatenate(list(X.values()), axis=1))
    for view in NAMES:
        assert (result.codes[view] == joined.codes).all()


def test_three_views(make_views_quantizer):
    names = ("title", "image", "clicks")
    result = semid.resolve(make_views_quantizer((3,), (2, 2), views=names), views_of(12, names=names))
    assert list(result.codes) == list(names)
    assert_resolved(result.codes, 1)
    assert repr(result).startswith("Resolution(12 items, 3 x 2 x 2 codes: ")


def test_weights_count(make_views_quantizer):
    quantizer, X = make_views_quantizer((2,), (2,)), views_of(2, identical=True)
    before = quantizer.encode(X)
    for weights in ([1, 9], [9, 1]):
        codes = semid.resolve(quantizer, X, weights=weights).codes
        for view in NAMES:
            assert (codes[view] == before[view]).all(axis=1).tolist() == [weight == 9 for weight in weights]


def test_suffix_is_counted_per_view_with_one_size(make_views_quantizer):
    quantizer = make_views_quantizer((2,), (2,))
    X = views_of(12)
    result = semid.resolve(quantizer, X, policy="suffix")
    assert_resolved(result.codes, 1)
    largest = max(rows[:, -1].max() for rows in result.codes.values())
    assert result.codebook_sizes == (2, 2, largest + 1)
    more = semid.resolve(quantizer, X, policy="suffix", taken=result.codes)
    assert_resolved(more.codes, 1, taken=result.codes)
    for view, before in quantizer.encode(X).items():
        assert (more.codes[view][:, :2] == before).all()


def test_too_many_items_for_the_ids_of_a_view(make_views_quantizer):
    with pytest.raises(InvalidValueError, match=r"at most 8, got 9\. Raise codebook_size or n_levels"):
        semid.resolve(make_views_quantizer((2,), (2, 2)), views_of(9))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"X": np.zeros((3, 4))},
            InvalidTypeError,
            r"X is not a mapping: expected one array for each of 'semantic', .*ndarray",
        ),
        (
            {"X": views_of(3, names=("title",))},
            InvalidValueError,
            r"X has no view 'semantic': expected .*, got 'title'\.",
        ),
        ({"codes": np.zeros((3, 2))}, InvalidTypeError, r"codes is not a mapping: expected one array for each of"),
        (
            {"codes": {name: np.zeros((2, 2), dtype=int) for name in NAMES}},
            InvalidValueError,
            r"codes and X disagree: expected 3 rows of codes, got 2",
        ),
        (
            {"codes": {name: np.full((3, 2), code) for code, name in enumerate(NAMES)}},
            InvalidValueError,
            r"views 'semantic' and 'collaborative' disagree in the shared levels of row 0: expected \[0\], got \[1\]",
        ),
        (
            {"taken": {name: np.zeros((code, 2), dtype=int) for code, name in enumerate(NAMES)}},
            InvalidValueError,
            r"taken of views 'semantic' and 'collaborative' disagree: expected 0 rows, got 1\. Row i of every",
        ),
        (
            {"taken": {name: np.zeros((2, 2), dtype=int) for name in NAMES}},
            InvalidValueError,
            r"taken\['semantic'\] collides with itself: expected at most 1 per ID, got 2 times \(0, 0\)",
        ),
        ({"weights": [1.0]}, InvalidValueError, r"weights have a wrong shape: expected \(3,\), got \(1,\)"),
    ],
)
def test_wrong_arguments_are_named(make_views_quantizer, change, error, message):
    arguments = {"X": views_of(3), **change}
    with pytest.raises(error, match=message):
        semid.resolve(make_views_quantizer((2,), (2,)), **arguments)


def test_items_equal_in_all_views_share_their_ids_when_asked_to(make_views_quantizer):
    quantizer = make_views_quantizer((2,), (2,))
    rng = np.random.default_rng(0)
    each = {view: rng.standard_normal((4, 2)).astype(np.float32) for view in quantizer.views}
    X = {view: np.repeat(rows, 3, axis=0) for view, rows in each.items()}
    result = semid.resolve(quantizer, X, duplicates="share", weights=np.arange(12))
    alone = semid.resolve(quantizer, each, weights=np.arange(12).reshape(4, 3).sum(axis=1))
    assert result.n_collisions_after == 0
    for view in quantizer.views:
        assert (result.codes[view] == np.repeat(alone.codes[view], 3, axis=0)).all()
        assert len(np.unique(result.codes[view], axis=0)) == 4


def test_items_equal_in_one_view_only_are_different_items(make_views_quantizer):
    quantizer = make_views_quantizer((2,), (2,))
    first, second = quantizer.views
    X = {first: np.zeros((4, 2), dtype=np.float32), second: np.arange(8, dtype=np.float32).reshape(4, 2)}
    result = semid.resolve(quantizer, X, duplicates="share")
    assert_resolved(result.codes, 1)
