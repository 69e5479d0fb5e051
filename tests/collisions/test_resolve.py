from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import SumQuantizer, least_assignment_oracle
from sklearn.exceptions import NotFittedError

import semid
from semid.errors import InvalidTypeError, InvalidValueError

fixtures_are_constant = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def embeddings(n_items, dim=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n_items, dim), dtype=np.float32)


def squared_distances(quantizer, X):
    return ((X[:, None].astype(np.float64) - quantizer.decode(quantizer.ids)[None]) ** 2).sum(axis=2)


def largest_group(*codes):
    return int(np.unique(np.concatenate(codes), axis=0, return_counts=True)[1].max())


@st.composite
def catalogues(draw):
    """A quantizer with few IDs, published IDs, and at most as many items as fit beside them."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    capacity = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    quantizer = SumQuantizer([rng.standard_normal((size, 3)) for size in sizes])
    places = np.repeat(quantizer.ids, capacity, axis=0)
    n_taken = draw(st.integers(0, len(places) - 1))
    n_items = draw(st.integers(1, len(places) - n_taken) | st.just(len(places) - n_taken))
    X = rng.standard_normal((n_items, 3), dtype=np.float32)
    kind = draw(st.sampled_from(["spread", "identical", "one prefix", "pairs"]))
    if kind == "identical":
        X[:] = X[0]
    elif kind == "one prefix":
        X = X * np.float32(1e-3) + quantizer.codebooks[0][0]
    elif kind == "pairs":
        X[1::2] = X[: len(X[1::2])]
    return quantizer, X, capacity, rng.permutation(places)[:n_taken]


@given(catalogues())
def test_ids_are_unique_and_cost_the_least(catalogue):
    quantizer, X, capacity, taken = catalogue
    result = semid.resolve(quantizer, X, capacity=capacity, taken=taken)
    assert largest_group(result.codes, taken) <= capacity
    assert result.n_collisions_after == 0
    room = np.full(len(quantizer.ids), capacity)
    np.subtract.at(room, np.ravel_multi_index(taken.T, quantizer.codebook_sizes), 1)
    least = least_assignment_oracle(squared_distances(quantizer, X), room)
    assert result.distortion_after == pytest.approx(least / len(X), rel=1e-5, abs=1e-5)
    assert abs(result.optimality_gap) < 1e-9
    assert abs(result.gap_over_all_ids) < 1e-5
    assert result.n_beyond_candidates == 0


@fixtures_are_constant
@given(catalogues())
def test_ids_are_unique_when_lists_are_short(short_lists, catalogue):
    quantizer, X, capacity, taken = catalogue
    result = semid.resolve(quantizer, X, capacity=capacity, taken=taken)
    assert largest_group(result.codes, taken) <= capacity
    assert abs(result.optimality_gap) < 1e-9
    room = np.full(len(quantizer.ids), capacity)
    np.subtract.at(room, np.ravel_multi_index(taken.T, quantizer.codebook_sizes), 1)
    least = least_assignment_oracle(squared_distances(quantizer, X), room)
    total = result.distortion_after * len(X)
    # The certificate holds: the least cost of all lies between bound and total.
    assert total * (1 - result.gap_over_all_ids) - 1e-4 <= least <= total + 1e-4


@fixtures_are_constant
@given(catalogues(), st.booleans())
def test_an_auction_gives_unique_ids_and_tells_how_near_to_the_least_cost(auction, catalogue, weighted):
    quantizer, X, capacity, taken = catalogue
    weights = np.random.default_rng(0).integers(0, 4, len(X)) if weighted else None
    result = semid.resolve(quantizer, X, capacity=capacity, taken=taken, weights=weights)
    assert largest_group(result.codes, taken) <= capacity
    room = np.full(len(quantizer.ids), capacity)
    np.subtract.at(room, np.ravel_multi_index(taken.T, quantizer.codebook_sizes), 1)
    cost = squared_distances(quantizer, X) * (1 if weights is None else weights[:, None])
    total = cost[np.arange(len(X)), np.ravel_multi_index(result.codes.T, quantizer.codebook_sizes)].sum()
    least = least_assignment_oracle(cost, room)
    assert total <= least * 1.001 + 1e-4
    assert result.optimality_gap == result.gap_over_all_ids
    assert total * (1 - result.gap_over_all_ids) - 1e-4 <= least


@given(seed=st.integers(0, 1000), zeros=st.booleans())
def test_weighted_cost_is_the_least(seed, zeros):
    rng = np.random.default_rng(seed)
    quantizer = SumQuantizer([rng.standard_normal((3, 3)), rng.standard_normal((3, 3))])
    X, weights = embeddings(8, seed=seed), rng.integers(0 if zeros else 1, 5, 8)
    result = semid.resolve(quantizer, X, weights=weights)
    cost = squared_distances(quantizer, X) * weights[:, None]
    at = np.ravel_multi_index(result.codes.T, quantizer.codebook_sizes)
    least = least_assignment_oracle(cost, np.ones(9, dtype=int))
    assert cost[np.arange(8), at].sum() == pytest.approx(least, rel=1e-5, abs=1e-5)


def test_the_heavy_one_of_two_equal_items_keeps_the_id(make_quantizer):
    quantizer = make_quantizer((4, 4))
    X = np.repeat(embeddings(1), 2, axis=0)
    for weights in ([1, 9], [9, 1]):
        moved = (semid.resolve(quantizer, X, weights=weights).codes != quantizer.encode(X)).any(axis=1)
        assert moved.tolist() == [weight == 1 for weight in weights]


def test_longer_lists_reach_the_optimum_where_ids_are_scarce(make_quantizer, monkeypatch):
    quantizer, X = make_quantizer((8, 8), dim=2), embeddings(60, dim=2)
    monkeypatch.setattr("semid.collisions.nearest.COMPLETE_PAIRS", 0)
    monkeypatch.setattr("semid.collisions.nearest.COUNT", 4)
    monkeypatch.setattr("semid.collisions.nearest.MOST_COUNT", 4)
    monkeypatch.setattr("semid.collisions.auction.LEAST_FILL", 2.0)
    result = semid.resolve(quantizer, X)
    least = least_assignment_oracle(squared_distances(quantizer, X), np.ones(64, dtype=int)) / 60
    assert result.distortion_after <= 1.002 * least
    assert result.gap_over_all_ids < 0.002


def test_identical_items_beyond_all_lists_get_ids_near_by(short_lists, make_quantizer):
    quantizer = make_quantizer((4, 4, 4))
    result = semid.resolve(quantizer, np.repeat(embeddings(1), 64, axis=0))
    assert largest_group(result.codes) == 1
    assert result.n_beyond_candidates == 64 - 8
    assert result.n_widened == 64
    assert 0 <= result.gap_over_all_ids < 1


def test_given_codes_are_the_state_before(make_quantizer):
    quantizer, X = make_quantizer((4, 4)), embeddings(10)
    best = semid.resolve(quantizer, X)
    again = semid.resolve(quantizer, X, best.codes)
    assert (again.n_moved, again.n_collisions_before) == (0, 0)
    assert again.distortion_before == again.distortion_after == best.distortion_after
    zeros = semid.resolve(quantizer, X, np.zeros((10, 2), dtype=int))
    assert zeros.n_collisions_before == 9
    assert zeros.n_moved == (best.codes != 0).any(axis=1).sum()
    assert zeros.distortion_before == pytest.approx(squared_distances(quantizer, X)[:, 0].mean())


def test_items_without_collisions_stay(make_quantizer):
    quantizer = make_quantizer((4, 4))
    X = quantizer.decode(quantizer.ids)
    result = semid.resolve(quantizer, X)
    assert (result.codes == quantizer.ids).all()
    assert (result.n_moved, result.n_collisions_before, result.distortion_after) == (0, 0, 0)


def test_published_ids_stay_and_new_items_go_elsewhere(make_quantizer):
    quantizer, X = make_quantizer((4, 4)), embeddings(16)
    old = semid.resolve(quantizer, X[:12]).codes
    new = semid.resolve(quantizer, X[12:], taken=old)
    assert largest_group(old, new.codes) == 1
    assert new.n_collisions_before >= 0
    assert (semid.resolve(quantizer, X, taken=old[:0]).codes == semid.resolve(quantizer, X).codes).all()


def test_the_same_call_gives_the_same_codes(make_quantizer, short_lists):
    quantizer, X = make_quantizer((6, 6)), np.round(embeddings(30))
    assert (semid.resolve(quantizer, X).codes == semid.resolve(quantizer, X).codes).all()


@pytest.mark.parametrize(("sizes", "dtype"), [((4, 4), np.uint8), ((2, 300), np.uint16)])
def test_codes_have_the_smallest_dtype(make_quantizer, sizes, dtype):
    result = semid.resolve(make_quantizer(sizes), embeddings(5))
    assert result.codes.dtype == dtype
    assert result.codes.flags.c_contiguous
    assert result.codebook_sizes == sizes


def test_read_only_embeddings_of_any_real_dtype(make_quantizer):
    quantizer, X = make_quantizer((4, 4)), embeddings(10).astype(np.float64)
    X.setflags(write=False)
    assert (semid.resolve(quantizer, X).codes == semid.resolve(quantizer, X.astype(np.float32)).codes).all()


def test_lists_out_of_order_are_put_in_order(make_quantizer):
    quantizer, X = make_quantizer((4, 4)), embeddings(12)
    expected = semid.resolve(quantizer, X)
    nearest_first = quantizer.candidates

    def farthest_first(X, *, count, beam):
        codes, cost = nearest_first(X, count=count, beam=beam)
        return codes[:, ::-1], cost[:, ::-1]

    quantizer.candidates = farthest_first
    assert semid.resolve(quantizer, X).distortion_after == expected.distortion_after


def test_a_quantizer_that_lists_fewer_ids_than_asked_for(make_quantizer, short_lists):
    quantizer, X = make_quantizer((4, 4)), np.repeat(embeddings(1), 16, axis=0)
    complete = quantizer.candidates

    def at_most_three(X, *, count, beam):
        codes, cost = complete(X, count=count, beam=beam)
        cost[:, 3:] = np.inf
        return codes, cost

    quantizer.candidates = at_most_three
    result = semid.resolve(quantizer, X)
    assert largest_group(result.codes) == 1
    assert result.n_beyond_candidates == 13
    assert 0 < result.gap_over_all_ids < 1


def test_the_result_shows_what_happened(quantizer_2x2):
    result = semid.resolve(quantizer_2x2, np.zeros((3, 3), dtype=np.float32))
    shown = repr(result)
    assert shown.startswith("Resolution(3 items, 2 x 2 codes: 2 -> 0 collisions, 2 moved, distortion ")
    assert shown.endswith(", assignment optimal)")
    with pytest.raises(AttributeError):
        result.codes = None


def test_the_result_shows_its_gap_as_a_share_of_the_cost(quantizer_2x2):
    result = semid.resolve(quantizer_2x2, embeddings(4))
    assert result.n_moved > 0
    shown = repr(replace(result, gap_over_all_ids=0.0123))
    assert shown.endswith(", at most 1.2 % of the assignment's cost avoidable)")


@pytest.mark.parametrize(
    ("policy", "text"), [("suffix", "no distortion added"), ("sinkhorn", "no bound on the distortion")]
)
def test_the_result_claims_no_optimum_that_a_policy_does_not_seek(quantizer_2x2, policy, text):
    far = np.zeros((4, 2), dtype=np.uint8)
    assert repr(semid.resolve(quantizer_2x2, embeddings(4), far, policy=policy)).endswith(f", {text})")


def test_codes_that_stay_add_no_distortion(quantizer_2x2):
    X = embeddings(4)
    result = semid.resolve(quantizer_2x2, X, capacity=4, max_level_moved=1, codes=np.zeros((4, 2), dtype=np.uint8))
    again = semid.resolve(quantizer_2x2, X, capacity=4, max_level_moved=1, codes=result.codes)
    assert again.n_moved == 0
    assert repr(again).endswith(", no distortion added)")


def test_too_many_items_tells_the_remedy(quantizer_2x2):
    with pytest.raises(InvalidValueError, match=r"at most 4, got 5\. Raise codebook_size or n_levels"):
        semid.resolve(quantizer_2x2, embeddings(5))


def test_too_many_items_beside_published_ones(quantizer_2x2):
    with pytest.raises(InvalidValueError, match=r"at most 7 beside 1 taken, got 8\. Raise"):
        semid.resolve(quantizer_2x2, embeddings(8), capacity=2, taken=np.array([[0, 1]]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"policy": "greedy"},
            InvalidValueError,
            r"policy is unknown: expected 'nearest' or 'suffix' or 'sinkhorn', got 'greedy'\. Choose one of these",
        ),
        ({"capacity": 0}, InvalidValueError, r"capacity is too small: expected at least 1, got 0\. Pass 1"),
        ({"capacity": 1.5}, InvalidTypeError, r"capacity has a wrong type: expected an integer, got 1\.5\. Pass how"),
        ({"capacity": True}, InvalidTypeError, r"expected an integer, got True"),
        ({"policy": "suffix", "capacity": 2}, InvalidValueError, r"expected capacity 1, got 2\. Leave capacity out"),
        ({"policy": "suffix", "weights": [1, 1]}, InvalidValueError, r"expected none, got some\. Leave weights"),
        (
            {"duplicates": "drop"},
            InvalidValueError,
            r"duplicates is unknown: expected 'separate' or 'share', got 'drop'",
        ),
        (
            {"policy": "suffix", "duplicates": "share"},
            InvalidValueError,
            r"expected duplicates='separate', got 'share'",
        ),
        (
            {"policy": "sinkhorn", "capacity": 2},
            InvalidValueError,
            r"policy 'sinkhorn' is for unique IDs: expected capa",
        ),
        (
            {"policy": "sinkhorn", "taken": [[0, 0]]},
            InvalidValueError,
            r"expected no taken, got some\. Leave taken out",
        ),
        ({"weights": [1, 2, 3]}, InvalidValueError, r"weights have a wrong shape: expected \(2,\), got \(3,\)\. Pass"),
        ({"weights": [1, -2]}, InvalidValueError, r"expected at least 0, got -2\.0 for item 1\. Pass 0 for items"),
        ({"weights": [np.nan, 1]}, InvalidValueError, r"expected at least 0, got nan for item 0"),
        ({"weights": ["a", "b"]}, InvalidTypeError, r"weights are not numbers: expected 2 numbers, got .*\. Pass one"),
        (
            {"weights": [1, 10**400]},
            InvalidTypeError,
            r"weights are not numbers: expected 2 numbers, got int too large",
        ),
        (
            {"weights": [1, 2j]},
            InvalidTypeError,
            r"weights are not numbers: expected 2 numbers, got dtype complex128\.",
        ),
        ({"weights": [[1], [1, 2]]}, InvalidValueError, r"weights is ragged: expected rows of one length"),
        (
            {"duplicates": np.array(["share", "share"])},
            InvalidValueError,
            r"duplicates is unknown: expected 'separate' or 'share', got array",
        ),
        ({"codes": [[0, 1]]}, InvalidValueError, r"codes and X disagree: expected 2 rows of codes, got 1\. Pass one"),
        (
            {"codes": [[0, 2], [0, 0]]},
            InvalidValueError,
            r"codes lies outside the codebook: expected 0 to 1 at level 1",
        ),
        ({"taken": [[0, 2]]}, InvalidValueError, r"taken lies outside the codebook"),
        (
            {"taken": [[0, 0], [1, 0], [1, 0], [1, 0]], "capacity": 2},
            InvalidValueError,
            r"taken collides with itself: expected at most 2 per ID, got 3 times \(1, 0\)\. Raise capacity, or publish",
        ),
        (
            {"taken": [[0, 0]], "policy": "suffix"},
            InvalidValueError,
            r"taken has a wrong shape: expected \(n_taken, 3\), the quantizer's levels and the suffix, got \(1, 2\)\.",
        ),
        (
            {"taken": [[0, 0, 0], [1]], "policy": "suffix"},
            InvalidValueError,
            r"taken is ragged: expected rows of one length",
        ),
        (
            {"taken": [["a", "b", "c"]], "policy": "suffix"},
            InvalidTypeError,
            r"taken has a wrong dtype: expected integers",
        ),
    ],
)
def test_wrong_options_are_named(quantizer_2x2, options, error, message):
    with pytest.raises(error, match=message):
        semid.resolve(quantizer_2x2, embeddings(2), **options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            embeddings(2),
            r"expected a fitted quantizer, got ndarray, which has no codebooks, codebook_sizes, encode",
        ),
        (object(), r"quantizer has a wrong type: .*, got object, .*\. Pass one of semid's, such as ResidualKMeans, or"),
        (None, r"got NoneType"),
        (semid.ResidualKMeans, r"got the class ResidualKMeans\. Pass ResidualKMeans\(\.\.\)\.fit\(X\)\."),
        (
            SimpleNamespace(specific_quantizers={}),
            r"got SimpleNamespace, which has no views, n_shared, ",
        ),
    ],
    ids=["embeddings", "object", "None", "class", "views"],
)
def test_what_is_no_quantizer_is_named(wrong, message):
    with pytest.raises(InvalidTypeError, match=message):
        semid.resolve(wrong, embeddings(2))


@pytest.mark.parametrize(
    ("quantizer", "X"),
    [
        (semid.ResidualKMeans(2, 4), embeddings(2)),
        (semid.SharedSpecificKMeans(views=("a", "b")), {"a": embeddings(2), "b": embeddings(2)}),
    ],
    ids=["one view", "views"],
)
def test_a_quantizer_without_a_fit_says_so(quantizer, X):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        semid.resolve(quantizer, X)


def test_only_the_ratios_of_weights_count(make_quantizer):
    quantizer, X, weights = make_quantizer((4, 4)), embeddings(14), np.arange(14.0)
    expected = semid.resolve(quantizer, X, weights=weights)
    for factor in (1e306, 1e-300):
        result = semid.resolve(quantizer, X, weights=factor * weights)
        assert (result.codes == expected.codes).all()
        assert abs(result.optimality_gap) < 1e-9 and abs(result.gap_over_all_ids) < 1e-5


@pytest.mark.parametrize("capacity", [2**62, 2**63, 10**30])
def test_there_may_be_more_room_than_can_be_counted(quantizer_2x2, capacity):
    X = embeddings(5)
    result = semid.resolve(quantizer_2x2, X, capacity=capacity)
    assert result.n_moved == 0 and (result.codes == semid.resolve(quantizer_2x2, X, capacity=5).codes).all()


def test_there_may_be_more_ids_than_64_bits_count():
    X = np.repeat(embeddings(40), 2, axis=0)
    quantizer = semid.ResidualKMeans(n_levels=33, codebook_size=4).fit(X)
    assert largest_group(semid.resolve(quantizer, X).codes) == 1


def test_views_for_a_quantizer_of_one_view(quantizer_2x2):
    with pytest.raises(
        InvalidTypeError, match=r"expected one array for SumQuantizer, got a dict of views \['semantic'\]\. Pass one"
    ):
        semid.resolve(quantizer_2x2, {"semantic": embeddings(2)})


@pytest.mark.parametrize("way", ["short_lists", "auction", None])
def test_the_order_of_rows_decides_nothing(make_quantizer, request, way):
    if way:
        request.getfixturevalue(way)
    quantizer, X = make_quantizer((6, 6)), embeddings(30)
    shuffled = np.random.default_rng(1).permutation(30)
    assert (semid.resolve(quantizer, X[shuffled]).codes == semid.resolve(quantizer, X).codes[shuffled]).all()


def test_with_item_ids_the_order_of_equal_rows_decides_nothing_either(make_quantizer):
    quantizer, X = make_quantizer((3, 4)), np.repeat(embeddings(4), 3, axis=0)
    shuffled = np.random.default_rng(1).permutation(12)
    for ids in (np.arange(12) * 7 - 30, [f"item-{i:02d}" for i in range(12)]):
        ids = np.array(ids)
        codes = semid.resolve(quantizer, X, item_ids=ids).codes
        assert (semid.resolve(quantizer, X[shuffled], item_ids=ids[shuffled]).codes == codes[shuffled]).all()
        assert (semid.resolve(quantizer, X[shuffled]).codes != codes[shuffled]).any()


def test_equal_items_share_an_id_when_asked_to(make_quantizer):
    quantizer = make_quantizer((2, 2))
    X = np.repeat(embeddings(4), 3, axis=0)
    with pytest.raises(InvalidValueError, match="at most 4, got 12"):
        semid.resolve(quantizer, X)
    result = semid.resolve(quantizer, X, duplicates="share", weights=np.arange(12))
    assert (result.codes == np.repeat(result.codes[::3], 3, axis=0)).all()
    assert len(np.unique(result.codes, axis=0)) == 4
    assert result.n_collisions_after == 0
    one_by_one = semid.resolve(quantizer, X[::3], weights=np.arange(12).reshape(4, 3).sum(axis=1))
    assert (result.codes[::3] == one_by_one.codes).all()


def test_items_that_float32_cannot_tell_apart_are_equal(quantizer_2x2):
    X = np.ones((2, 3))
    X[1] += 1e-9
    codes = semid.resolve(quantizer_2x2, X, duplicates="share").codes
    assert (X[0] != X[1]).all() and (codes[0] == codes[1]).all()
    X[1] += 1e-6
    codes = semid.resolve(quantizer_2x2, X, duplicates="share").codes
    assert (codes[0] != codes[1]).any()


def test_signed_zeros_are_equal(make_quantizer):
    result = semid.resolve(make_quantizer((2, 2)), np.array([[0.0] * 3, [-0.0] * 3]), duplicates="share")
    assert (result.codes[0] == result.codes[1]).all()


def test_only_lists_that_are_too_short_are_widened(short_lists, make_quantizer):
    quantizer, apart = make_quantizer((4, 4)), np.array([[0, 0], [1, 1], [2, 2]])
    X = quantizer.decode(apart).astype(np.float32)
    assert semid.resolve(quantizer, X).n_widened == 0
    crowded = np.concatenate([X[:1]] * 3)  # three items, two IDs on their first lists
    result = semid.resolve(quantizer, crowded)
    assert 1 <= result.n_widened <= 3
    assert result.n_beyond_candidates == 0
    assert largest_group(result.codes) == 1


def test_no_list_is_widened_where_all_ids_are_listed(make_quantizer):
    result = semid.resolve(make_quantizer((4, 4)), np.repeat(embeddings(1), 16, axis=0))
    assert result.n_widened == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_named(quantizer_2x2, bad):
    X = embeddings(4)
    X[2, 1] = bad
    with pytest.raises(InvalidValueError, match=r"row 2"):
        semid.resolve(quantizer_2x2, X)


def test_beyond_the_search_budget_ids_stay_unique_and_the_gap_tells(make_quantizer, monkeypatch):
    quantizer, X = make_quantizer((6, 6)), np.repeat(embeddings(6), 6, axis=0)
    exact = semid.resolve(quantizer, X)
    monkeypatch.setattr("semid.collisions.candidates.LEAST_LOOKS", 0)
    monkeypatch.setattr("semid.collisions.candidates.LOOKS_PER_ITEM", 1)
    result = semid.resolve(quantizer, X)
    assert largest_group(result.codes) == 1
    assert result.distortion_after > exact.distortion_after
    assert result.distortion_after * (1 - result.optimality_gap) <= exact.distortion_after * (1 + 1e-6)
