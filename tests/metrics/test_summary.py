import json
import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from oracles import distortion_oracle, entropy_oracle, gini_oracle, neighbor_recall_oracle, prefix_purity_oracle
from sklearn.exceptions import NotFittedError

import semid
from semid.errors import InvalidTypeError, InvalidValueError


class SumOfCentroids:
    """The smallest quantizer: random codebooks, decoded by their sum."""

    def __init__(self, rng, sizes=(6, 4), dim=5):
        self.codebooks = tuple(rng.standard_normal((size, dim)).astype(np.float32) for size in sizes)
        self.codebook_sizes = sizes
        self.n_levels, self.dim = len(sizes), dim

    def decode(self, codes):
        return sum(codebook[column] for codebook, column in zip(self.codebooks, np.asarray(codes).T, strict=True))


class TwoViews:
    """One shared and one specific level over views that were shifted and scaled."""

    shift = 7.0

    def __init__(self, rng, dim=5):
        self.scales = {"text": 3.0, "clicks": 0.25}
        self.views = tuple(self.scales)
        self.codebooks = {view: SumOfCentroids(rng, dim=dim).codebooks for view in self.views}
        self.n_levels, self.codebook_sizes = 2, (6, 4)

    def standardize(self, views):
        return {view: ((x - self.shift) * self.scales[view]).astype(np.float32) for view, x in views.items()}

    def decode(self, codes):
        assert set(codes) == set(self.views)
        return {
            view: sum(book[column] for book, column in zip(self.codebooks[view], codes[view].T, strict=True))
            / self.scales[view]
            + self.shift
            for view in self.views
        }


@pytest.fixture
def quantizer(rng):
    return SumOfCentroids(rng)


@pytest.fixture
def codes(rng):
    return np.stack([rng.integers(0, 5, 30), rng.integers(0, 4, 30)], axis=1).astype(np.uint8)


@pytest.fixture
def X(rng, quantizer, codes):
    return (quantizer.decode(codes) + 0.5 * rng.standard_normal((30, 5))).astype(np.float32)


def test_collisions_and_usage(X, codes):
    measured = semid.report(X, codes)
    rows = [tuple(row) for row in codes.tolist()]
    assert measured.n_items == 30
    assert measured.n_unique == len(set(rows))
    assert measured.collision_rate == pytest.approx(1 - len(set(rows)) / 30)
    assert measured.largest_group == max(map(rows.count, rows))
    assert measured.gini == pytest.approx(gini_oracle([rows.count(row) for row in set(rows)]))
    for level, column in zip(measured.levels, codes.T, strict=True):
        assert level.codebook_size == int(column.max()) + 1
        assert level.gini == pytest.approx(gini_oracle(np.bincount(column).tolist()))
        assert level.n_used == len(set(column.tolist()))
        assert level.usage == level.n_used / level.codebook_size
        assert level.entropy_bits == pytest.approx(entropy_oracle(column))
        assert level.perplexity == pytest.approx(2 ** entropy_oracle(column))


def test_without_a_quantizer_there_is_no_distortion_and_no_recall(X, codes):
    measured = semid.report(X, codes)
    assert math.isnan(measured.distortion)
    assert math.isnan(measured.relative_distortion)
    assert math.isnan(measured.neighbor_recall)
    assert all(math.isnan(level.distortion) for level in measured.levels)
    assert (measured.n_neighbors, measured.n_queries) == (0, 0)


def test_with_a_quantizer_dead_codes_count(X, codes, quantizer):
    level = semid.report(X, codes, quantizer).levels[0]
    assert (level.codebook_size, level.n_used) == (6, 5)
    assert level.gini == pytest.approx(gini_oracle(np.bincount(codes[:, 0], minlength=6).tolist()))


def test_distortion_agrees_with_oracle(X, codes, quantizer):
    measured = semid.report(X, codes, quantizer)
    first = quantizer.codebooks[0][codes[:, 0]]
    variance = distortion_oracle(X, [X.astype(np.float64).mean(axis=0)] * len(X))
    expected = [distortion_oracle(X, first), distortion_oracle(X, quantizer.decode(codes))]
    assert [level.distortion for level in measured.levels] == pytest.approx(expected, rel=1e-6)
    assert [level.relative_distortion for level in measured.levels] == pytest.approx(
        [value / variance for value in expected], rel=1e-6
    )
    assert measured.distortion == pytest.approx(expected[1], rel=1e-12)
    assert measured.relative_distortion == pytest.approx(expected[1] / variance, rel=1e-12)


def test_recall_agrees_with_oracle(X, quantizer):
    codes = np.stack(np.divmod(np.arange(24), 4), axis=1)  # distinct, so nothing ties
    measured = semid.report(X[:24], codes, quantizer, n_neighbors=4)
    expected = neighbor_recall_oracle(X[:24], quantizer.decode(codes), range(24), 4, orders=[range(24)])
    assert measured.neighbor_recall == pytest.approx(expected, abs=1e-12)
    assert (measured.n_neighbors, measured.n_queries) == (4, 24)


def test_recall_of_a_seeded_sample(X, codes, quantizer):
    one, again, other = (semid.report(X, codes, quantizer, sample=5, seed=seed).neighbor_recall for seed in (0, 0, 1))
    assert one == again != other
    queries = np.sort(np.random.default_rng(1).choice(30, 5, replace=False))
    decoded = quantizer.decode(codes)
    # Collisions tie: many random orders approach the expectation.
    orders = [np.random.default_rng(order).permutation(30) for order in range(400)]
    assert other == pytest.approx(neighbor_recall_oracle(X, decoded, queries, 10, orders), abs=0.01)


def test_more_neighbors_than_items(X, codes, quantizer):
    measured = semid.report(X[:4], codes[:4], quantizer, n_neighbors=10)
    assert (measured.n_neighbors, measured.neighbor_recall) == (3, 1.0)


def test_one_item(X, codes, quantizer):
    measured = semid.report(X[:1], codes[:1], quantizer)
    assert (measured.n_items, measured.collision_rate, measured.largest_group) == (1, 0.0, 1)
    assert math.isnan(measured.neighbor_recall)
    assert math.isnan(measured.relative_distortion)
    assert measured.distortion > 0
    assert json.loads(json.dumps(measured.to_dict(), allow_nan=False))["neighbor_recall"] is None


def test_equal_embeddings(codes, quantizer):
    measured = semid.report(np.full((30, 5), 0.1), codes, quantizer)
    assert math.isnan(measured.relative_distortion)
    assert "of the variance" not in str(measured)


def test_the_suffix_level_counts_but_decodes_to_nothing(X, codes, quantizer):
    suffix = np.arange(30)
    measured = semid.report(X, np.column_stack([codes, suffix]), quantizer, labels=codes[:, 0])
    plain = semid.report(X, codes, quantizer, labels=codes[:, 0])
    assert measured.collision_rate == 0.0
    assert measured.levels[:2] == plain.levels
    assert (measured.levels[2].codebook_size, measured.levels[2].n_used) == (30, 30)
    assert math.isnan(measured.levels[2].distortion)
    assert measured.distortion == plain.distortion
    assert measured.neighbor_recall == plain.neighbor_recall


def test_a_network_has_distortion_but_none_per_level(X, codes, quantizer):
    def decode(rows):
        return np.tanh(SumOfCentroids.decode(quantizer, rows))

    quantizer.decode = decode
    measured = semid.report(X, codes, quantizer)
    assert all(math.isnan(level.distortion) for level in measured.levels)
    assert measured.distortion == pytest.approx(distortion_oracle(X, decode(codes)), rel=1e-12)
    assert 0 < measured.neighbor_recall < 1


def test_codebooks_of_another_dim_than_the_embeddings(rng, X, codes):
    class Network(SumOfCentroids):
        def __init__(self):
            super().__init__(rng, dim=2)
            self.dim = 5

        def decode(self, rows):
            return super().decode(rows) @ np.ones((2, 5), np.float32)

    measured = semid.report(X, codes, Network())
    assert math.isnan(measured.levels[0].distortion) and measured.distortion > 0


def test_a_report_per_view(rng):
    quantizer = TwoViews(rng)
    codes = {view: rng.integers(0, 4, (25, 2)).astype(np.uint8) for view in quantizer.views}
    decoded = quantizer.decode(codes)
    X = {view: (x + rng.standard_normal(x.shape) / quantizer.scales[view]) for view, x in decoded.items()}
    measured = semid.report(X, codes, quantizer, n_neighbors=3)
    assert list(measured.views) == ["text", "clicks"]
    for view in quantizer.views:
        first = quantizer.codebooks[view][0][codes[view][:, 0]] / quantizer.scales[view] + quantizer.shift
        one = measured[view]
        assert one.levels[0].distortion == pytest.approx(distortion_oracle(X[view], first), rel=1e-5)
        assert one.levels[1].distortion == pytest.approx(distortion_oracle(X[view], decoded[view]), rel=1e-5)
        assert one.distortion == pytest.approx(distortion_oracle(X[view], decoded[view]), rel=1e-5)
        assert 0 < one.neighbor_recall < 1
    assert json.loads(json.dumps(measured.to_dict()))["text"]["n_items"] == 25
    text = str(measured)
    assert text.startswith("text\n25 items")
    assert "\n\nclicks\n25 items" in text


def test_views_without_a_quantizer(rng):
    X = {"text": rng.standard_normal((4, 3)), "clicks": rng.standard_normal((4, 2))}
    measured = semid.report(X, {"clicks": [[0], [1], [2], [2]], "text": [[0], [0], [0], [0]]})
    assert [measured[view].n_unique for view in ("text", "clicks")] == [1, 3]


def test_the_table(codes, quantizer):
    measured = semid.report(
        quantizer.decode(codes) + np.float32(0.1), np.column_stack([codes, codes[:, 0] * 0]), quantizer
    )
    lines = str(measured).splitlines()
    assert lines[0].startswith("30 items, ")
    assert lines[1].split("  ")[-1] == "of variance"
    assert lines[4].split()[-2:] == ["-", "-"]
    assert len({len(line) for line in lines[1:5]}) == 1
    assert lines[5].startswith("distortion 0.05, ")
    assert lines[6].startswith("neighbor recall@10 ")
    assert lines[6].endswith("% over 30 items")
    assert repr(measured) == str(measured)


def test_purity_per_level(X, codes):
    labels = ["hair", "nails", "soap"] * 10
    measured = semid.report(X, codes, labels=labels)
    assert [level.prefix_purity for level in measured.levels] == pytest.approx(
        [prefix_purity_oracle(codes, labels, depth) for depth in (1, 2)]
    )
    lines = str(measured).splitlines()
    assert lines[1].endswith("  gini  purity") and lines[2].endswith(f"{measured.levels[0].prefix_purity:.1%}")


def test_without_labels_there_is_no_purity(X, codes):
    measured = semid.report(X, codes)
    assert all(math.isnan(level.prefix_purity) for level in measured.levels)
    assert "purity" not in str(measured)
    assert measured.to_dict()["levels"][0]["prefix_purity"] is None


def test_purity_of_each_view(X, codes):
    measured = semid.report({"text": X, "clicks": X}, {"text": codes, "clicks": codes[:, ::-1]}, labels=["a", "b"] * 15)
    assert measured["text"].levels[1].prefix_purity == measured["clicks"].levels[1].prefix_purity
    with pytest.raises(InvalidValueError, match=r"labels and codes disagree: expected 30 labels, got 1"):
        semid.report({"text": X}, {"text": codes}, labels=["a"])


def test_the_report_is_frozen(X, codes):
    with pytest.raises(FrozenInstanceError):
        semid.report(X, codes).n_items = 3


def test_to_dict_is_json(X, codes, quantizer):
    facts = json.loads(json.dumps(semid.report(X, codes, quantizer).to_dict(), allow_nan=False))
    assert facts["levels"][0]["codebook_size"] == 6
    assert facts["n_queries"] == 30


@pytest.mark.parametrize("name", ["n_neighbors", "sample"])
def test_counts_must_be_positive(X, codes, name):
    with pytest.raises(InvalidValueError, match=rf"{name} is too small: expected 1 or more, got 0\. Raise it\."):
        semid.report(X, codes, **{name: 0})


@pytest.mark.parametrize("name", ["n_neighbors", "sample", "seed"])
@pytest.mark.parametrize("value", [1.5, None])
def test_counts_must_be_integers(X, codes, name, value):
    message = rf"{name} is not an integer: expected [01] or more, got {value}\. Pass a whole number\."
    with pytest.raises(InvalidTypeError, match=message):
        semid.report(X, codes, **{name: value})


def test_seeds_are_not_negative(X, codes):
    with pytest.raises(InvalidValueError, match=r"seed is too small: expected 0 or more, got -1\."):
        semid.report(X, codes, seed=-1)


def test_counts_of_numpy_end_up_as_json(X, codes, quantizer):
    measured = semid.report(X, codes, quantizer, sample=np.int32(10), n_neighbors=np.int64(2))
    assert json.loads(json.dumps(measured.to_dict()))["n_queries"] == 10


@pytest.mark.parametrize("wrong", [object(), semid.ResidualKMeans, np.eye(3)], ids=["object", "class", "array"])
def test_what_is_no_quantizer_is_named(X, codes, wrong):
    with pytest.raises(InvalidTypeError, match=r"quantizer has a wrong type: expected a fitted quantizer, got "):
        semid.report(X, codes, wrong)


def test_a_quantizer_without_a_fit_says_so(X, codes):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        semid.report(X, codes, semid.ResidualKMeans(2, 4))


def test_other_number_of_items(X, codes):
    message = r"codes and embeddings disagree: expected 30 rows of codes, got 29\. Pass the codes of these items\."
    with pytest.raises(InvalidValueError, match=message):
        semid.report(X, codes[:29])


def test_other_dim(X, codes, quantizer):
    with pytest.raises(InvalidValueError, match=r"X has another dim: expected 5, got 4"):
        semid.report(X[:, :4], codes, quantizer)


def test_ragged_codes(X, quantizer):
    with pytest.raises(InvalidValueError, match=r"codes is ragged: expected rows of one length, got list"):
        semid.report(X, [[1], [1, 2]], quantizer)


def test_codes_of_another_quantizer(X, codes, quantizer):
    with pytest.raises(InvalidValueError, match=r"codes lies outside the codebook: expected 0 to 3 at level 1, got 4"):
        semid.report(X, codes[:, ::-1], quantizer)


def test_views_must_agree(X, codes, quantizer, rng):
    message = r"views disagree: expected the same everywhere, got X of \['text'\], codes of one view\. Pass the same"
    with pytest.raises(InvalidValueError, match=message):
        semid.report({"text": X}, codes)
    with pytest.raises(
        InvalidValueError, match=r"got X of one view, codes of one view, quantizer of \['clicks', 'text'\]"
    ):
        semid.report(X, codes, TwoViews(rng))
    with pytest.raises(InvalidValueError, match=r"got X of \['text'\], codes of \['clicks'\]"):
        semid.report({"text": X}, {"clicks": codes})
    with pytest.raises(InvalidValueError, match=r"codes of text and embeddings disagree"):
        semid.report({"text": X}, {"text": codes[1:]})


def test_residual_kmeans(rng):
    X = rng.standard_normal((200, 6)).astype(np.float32)
    quantizer = semid.ResidualKMeans(n_levels=3, codebook_size=8).fit(X)
    codes = quantizer.encode(X)
    measured = semid.report(X, codes, quantizer)
    assert measured.distortion == pytest.approx(distortion_oracle(X, quantizer.decode(codes)), rel=1e-12)
    by_level = [level.distortion for level in measured.levels]
    assert by_level == sorted(by_level, reverse=True)
    assert by_level[-1] == pytest.approx(measured.distortion, rel=1e-5)


def test_shared_specific_kmeans(rng):
    X = {"text": rng.standard_normal((200, 6)) + 5, "clicks": 30 * rng.standard_normal((200, 4))}
    quantizer = semid.SharedSpecificKMeans(
        n_shared=1, n_specific=1, codebook_size=8, views=("text", "clicks"), view_weights={"text": 2.0, "clicks": 1.0}
    ).fit(X)
    codes = quantizer.encode(X)
    decoded = quantizer.decode(codes)
    measured = semid.report(X, codes, quantizer)
    for view, x in X.items():
        expected = distortion_oracle(x, decoded[view])
        assert measured[view].distortion == pytest.approx(expected, rel=1e-5)
        assert measured[view].levels[-1].distortion == pytest.approx(expected, rel=1e-4)


def test_resolved_codes_have_no_collisions(rng):
    X = rng.standard_normal((60, 6)).astype(np.float32)
    quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=8).fit(X)
    resolution = semid.resolve(quantizer, X)
    measured = semid.report(X, resolution.codes, quantizer)
    assert (measured.collision_rate, measured.largest_group) == (0.0, 1)
    assert measured.distortion == pytest.approx(resolution.distortion_after, rel=1e-5)
