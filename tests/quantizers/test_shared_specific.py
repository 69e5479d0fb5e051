import json
import pickle
import re
from itertools import product

import numpy as np
import pytest
from oracles import residual_encode_oracle
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.quantizers import ResidualKMeans, SharedSpecificKMeans

VIEWS = ("semantic", "collaborative")


@pytest.fixture(scope="module")
def X(make_clustered):
    """Two views that agree on a part of their directions, in very different units."""
    semantic = make_clustered(1500, 24)
    noise = np.random.default_rng(1).standard_normal((1500, 8), dtype=np.float32)
    return {"semantic": semantic, "collaborative": 100 * (semantic[:, :8] + 0.1 * noise) + 7}


@pytest.fixture(
    scope="module", params=[(1, 2), (2, 1), (0, 2), (2, 0)], ids=lambda n: f"{n[0]} shared, {n[1]} specific"
)
def fitted(request, X):
    return SharedSpecificKMeans(*request.param, 16).fit(X)


@pytest.fixture(scope="module")
def one_two(X):
    return SharedSpecificKMeans(1, 2, (32, 16, 8)).fit(X)


def test_shapes_dtypes_and_shared_columns(X, fitted):
    codes = fitted.encode(X)
    assert list(codes) == list(VIEWS)
    for view in VIEWS:
        assert codes[view].shape == (1500, fitted.n_levels) and codes[view].dtype == np.uint8
        np.testing.assert_array_equal(codes[view][:, : fitted.n_shared], codes["semantic"][:, : fitted.n_shared])
    assert fitted.codebook_sizes == (16,) * fitted.n_levels


def test_views_are_standardised_to_mean_0_and_total_variance_1(X, fitted):
    for view, Z in fitted.standardize(X).items():
        assert Z.dtype == np.float32 and Z.shape == X[view].shape
        np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-5)
        assert (Z**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)


def test_codebooks_are_one_residual_quantizer_per_view(X, fitted):
    """Of each view, the sum of its centroids is what decode gives, but for the scale."""
    codes, Z = fitted.encode(X), fitted.standardize(X)
    for view, books in fitted.codebooks.items():
        assert [book.shape for book in books] == [(16, X[view].shape[1])] * fitted.n_levels
        decoded = sum(book[codes[view][:, level]] for level, book in enumerate(books))
        scaling = fitted.scaling_[view]
        np.testing.assert_allclose(
            fitted.decode(codes)[view], decoded / scaling.factor + scaling.mean, rtol=1e-5, atol=1e-4
        )
        assert ((Z[view] - decoded) ** 2).sum(axis=1).mean() < 0.7


def test_shared_codes_are_residual_codes_of_the_joined_views(X, one_two):
    joined = np.concatenate(list(one_two.standardize(X).values()), axis=1)
    shared = residual_encode_oracle(joined, one_two.shared_quantizer.codebooks)
    codes = one_two.encode(X)
    assert (codes["semantic"][:, :1] == shared).mean() > 0.999
    rest = joined - one_two.shared_quantizer.decode(codes["semantic"][:, :1])
    for view, columns in zip(VIEWS, (slice(0, 24), slice(24, 32)), strict=True):
        specific = residual_encode_oracle(rest[:, columns], one_two.specific_quantizers[view].codebooks)
        assert (codes[view][:, 1:] == specific).mean() > 0.999


def test_quantizers_of_no_levels_are_none(fitted):
    assert (fitted.shared_quantizer is None) == (fitted.n_shared == 0)
    assert all((part is None) == (fitted.n_specific == 0) for part in fitted.specific_quantizers.values())
    for part in (fitted.shared_quantizer, *fitted.specific_quantizers.values()):
        assert part is None or isinstance(part, ResidualKMeans)


def test_a_beam_lowers_the_distortion(X, one_two):
    Z = one_two.standardize(X)

    def distortion(codes):
        return sum(((Z[view] - one_two.standardize(one_two.decode(codes))[view]) ** 2).sum() for view in VIEWS)

    assert distortion(one_two.encode(X, beam=8)) < distortion(one_two.encode(X))


def test_units_do_not_matter(X, one_two):
    scaled = {"semantic": X["semantic"] * 1024 + 3, "collaborative": X["collaborative"]}
    codes, same = one_two.encode(X), clone(one_two).fit(scaled).encode(scaled)
    assert (codes["semantic"][:, 0] == same["semantic"][:, 0]).mean() > 0.95


def test_a_weight_pulls_the_shared_codes_towards_its_view(X):
    def share_explained(weights):
        quantizer = SharedSpecificKMeans(1, 1, 16, view_weights=weights).fit(X)
        codes, Z = quantizer.encode(X), quantizer.standardize(X)["collaborative"]
        rest = Z - quantizer.codebooks["collaborative"][0][codes["collaborative"][:, 0]]
        return 1 - (rest**2).sum() / (Z**2).sum()

    assert share_explained({"collaborative": 0.05}) < share_explained(None) < share_explained({"collaborative": 20})


def test_three_views_of_any_name_and_a_constant_one(rng):
    X = {view: rng.normal(size=(60, dim)) for view, dim in (("a/b", 3), ("ü", 4))} | {"flat": np.full((60, 2), 5.0)}
    quantizer = SharedSpecificKMeans(1, 1, 8, views=("a/b", "ü", "flat")).fit(X)
    decoded = quantizer.decode(quantizer.encode(X))
    np.testing.assert_array_equal(decoded["flat"], X["flat"])
    assert decoded["a/b"].shape == (60, 3)


def test_blocks_of_rows_make_no_difference(X, one_two, monkeypatch):
    expected = one_two.encode(X)
    monkeypatch.setattr("semid.quantizers.shared_levels.BLOCK_ROWS", 1024)
    for view, codes in one_two.encode(X).items():
        np.testing.assert_array_equal(codes, expected[view])


def test_files_give_the_same_as_arrays(X, one_two, tmp_path):
    for view, part in X.items():
        np.save(tmp_path / f"{view}.npy", part)
    paths = {view: tmp_path / f"{view}.npy" for view in X}
    for view, codes in clone(one_two).fit(paths).encode(paths).items():
        np.testing.assert_array_equal(codes, one_two.encode(X)[view])


@pytest.mark.parametrize("mmap", [False, True])
def test_saved_and_loaded_it_is_the_same(X, fitted, tmp_path, mmap):
    fitted.save_pretrained(tmp_path / "quantizer")
    loaded = SharedSpecificKMeans.from_pretrained(tmp_path / "quantizer", mmap=mmap)
    codes = fitted.encode(X, beam=2)
    for view in VIEWS:
        np.testing.assert_array_equal(loaded.encode(X, beam=2)[view], codes[view])
        np.testing.assert_array_equal(loaded.decode(codes)[view], fitted.decode(codes)[view])
    assert loaded.get_params() == fitted.get_params() | {"codebook_size": [16] * fitted.n_levels}
    assert "the views semantic, collaborative of an item" in (tmp_path / "quantizer" / "README.md").read_text()


def test_weights_are_saved(X, tmp_path):
    SharedSpecificKMeans(1, 0, 4, view_weights={"semantic": 2.0}).fit(X).save_pretrained(tmp_path)
    assert SharedSpecificKMeans.from_pretrained(tmp_path).view_weights == {"semantic": 2.0}


def test_a_folder_whose_parts_do_not_fit_is_refused(one_two, tmp_path):
    one_two.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("checksum")  # as if whoever made it had no need of one
    changes = [{"n_shared": 2}, {"n_specific": 3}, {"codebook_size": [32, 16, 4]}, {"views": ["a", "b", "c"]}]
    for change, got in product([*changes, {"views": ["semantic"]}], [".*"]):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(FormatError, match=rf"is damaged: expected parameters and arrays .*{got}Save it again"):
            SharedSpecificKMeans.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "params, text",
    [
        ({"n_shared": 2, "n_specific": 1}, "n_shared is not that of the fit: expected 1, got 2. Set it back with"),
        (
            {"views": ("a", "b")},
            "views is not that of the fit: expected ('semantic', 'collaborative'), got ('a', 'b'). Set it back",
        ),
        ({"views": ("collaborative", "semantic")}, "views is not that of the fit"),
    ],
)
def test_parameters_that_shape_what_was_learnt_cannot_change(X, one_two, tmp_path, params, text):
    codes = one_two.encode(X)
    changed = pickle.loads(pickle.dumps(one_two)).set_params(**params)
    calls = [changed.encode, changed.standardize, changed.partial_fit, lambda _: changed.decode(codes)]
    calls += [
        lambda _: changed.refit(X, codes),
        lambda _: changed.codebooks,
        lambda _: changed.save_pretrained(tmp_path),
    ]
    for call in calls:
        with pytest.raises(InvalidValueError, match=re.escape(text)):
            call(X)
    assert not list(tmp_path.iterdir()) and changed.codebook_sizes == one_two.codebook_sizes
    if "n_shared" in params:
        assert changed.fit(X).encode(X)["semantic"].shape == (len(X["semantic"]), 3)


def test_views_cannot_change_between_the_first_batches(X):
    quantizer = SharedSpecificKMeans(1, 1, 8).partial_fit({view: part[:20] for view, part in X.items()})
    quantizer.set_params(views=("a", "b"))
    parts = {"a": X["semantic"], "b": X["collaborative"]}
    with pytest.raises(InvalidValueError, match=re.escape("views is not that of the fit: expected ('semantic', 'col")):
        quantizer.partial_fit(parts)
    with pytest.raises(NotFittedError, match="expected 512 rows from partial_fit, got 20"):
        quantizer.encode(parts)
    assert quantizer.fit(parts).encode(parts)["a"].shape == (len(parts["a"]), 2)


def test_numbers_of_numpy_are_saved(X, tmp_path):
    SharedSpecificKMeans(1, 0, 4, view_weights={"semantic": np.float32(2)}).fit(X).save_pretrained(tmp_path)
    assert SharedSpecificKMeans.from_pretrained(tmp_path).view_weights == {"semantic": 2.0}


def test_batches_of_data_frames_have_the_columns_of_the_fit(X):
    pd = pytest.importorskip("pandas")
    frames = {view: pd.DataFrame(part).rename(columns=str) for view, part in X.items()}
    turned = frames | {"collaborative": frames["collaborative"].iloc[:, ::-1]}
    quantizer = SharedSpecificKMeans(1, 1, 8).fit(frames)
    assert quantizer.feature_names_in_["collaborative"] == tuple(frames["collaborative"])
    text = r"view 'collaborative' has other columns than in the fit: expected '0', got .* as column 0\. Select the"
    codes = quantizer.encode([frames])
    for call in (
        lambda: quantizer.encode([turned]),
        lambda: quantizer.refit(turned, codes),
        lambda: quantizer.partial_fit([turned]),
    ):
        with pytest.raises(InvalidValueError, match=text):
            call()


@pytest.mark.parametrize(
    "params, error, text",
    [
        (
            {"n_shared": 0, "n_specific": 0},
            InvalidValueError,
            "n_shared + n_specific is too small: expected 1 or more, got 0",
        ),
        ({"n_shared": -1}, InvalidValueError, "n_shared is too small: expected 0 or more, got -1."),
        ({"codebook_size": (8, 8)}, InvalidValueError, "expected one size for each of 3 levels, got 2."),
        (
            {"codebook_size": 2000},
            InvalidValueError,
            "too few items for level 0: expected at least 2000, its codebook_size",
        ),
        ({"views": ()}, InvalidValueError, "views are wrong: expected one or more different names, got (). Name each"),
        ({"views": ("a", "a")}, InvalidValueError, "views are wrong: expected one or more different names, got ('a',"),
        ({"views": 2}, InvalidTypeError, "views have a wrong type: expected a sequence of names, got 2."),
        ({"view_weights": [1, 2]}, InvalidTypeError, "view_weights have a wrong type: expected a mapping from view"),
        (
            {"view_weights": {"semantic": "a"}},
            InvalidTypeError,
            "view_weights['semantic'] is not a number: expected a positive number, got 'a'. Pass a float.",
        ),
        (
            {"views": "semantic"},
            InvalidTypeError,
            "views have a wrong type: expected a sequence of names, got 'semantic'.",
        ),
        (
            {"view_weights": {"text": 1}},
            InvalidValueError,
            "view_weights has an unknown view: expected 'semantic', 'collaborative', got 'text'. Rename it.",
        ),
        (
            {"view_weights": {"semantic": 0}},
            InvalidValueError,
            "view_weights['semantic'] is out of range: expected a positive "
            "number, got 0. Leave out a view that should not count.",
        ),
        ({"sample_size": 0}, InvalidValueError, "sample_size is too small: expected 1 or more, got 0."),
        ({"init": "pca"}, InvalidValueError, "init is unknown"),
        ({"seed": 0.5}, InvalidTypeError, "seed is not an integer: expected 0 or more, got 0.5."),
        ({"max_iter": 0}, InvalidValueError, "max_iter is too small"),
    ],
)
def test_wrong_parameters_are_refused_by_fit(X, params, error, text):
    with pytest.raises(error, match=re.escape(text)):
        SharedSpecificKMeans(**{"codebook_size": 8} | params).fit(X)


def batches_of(X, size):
    n_items = len(next(iter(X.values())))
    return [{view: part[first : first + size] for view, part in X.items()} for first in range(0, n_items, size)]


def assert_same(left, right):
    assert list(left) == list(right)
    for view in left:
        np.testing.assert_array_equal(left[view], right[view])


@pytest.mark.parametrize("n", [(1, 2), (0, 1), (2, 0)], ids=lambda n: f"{n[0]} shared, {n[1]} specific")
def test_batches_come_near_a_fit(X, n):
    streamed, whole = SharedSpecificKMeans(*n, 8), SharedSpecificKMeans(*n, 8).fit(X)
    for batch in batches_of(X, 150):
        assert streamed.partial_fit(batch) is streamed
    Z = whole.standardize(X)
    errors = [
        sum(((Z[view] - whole.standardize(q.decode(q.encode(X)))[view]) ** 2).sum() for view in VIEWS)
        for q in (streamed, whole)
    ]
    assert errors[0] < 1.1 * errors[1]
    counts = [*streamed.shared_counts_, *(count for own in streamed.specific_counts_.values() for count in own)]
    assert len(counts) == n[0] + 2 * n[1] and all(count.sum() == 1500 for count in counts)


def test_until_there_are_enough_rows_it_is_not_fitted(X):
    first, second, rest = batches_of(X, 500)
    quantizer = SharedSpecificKMeans(1, 1, 16).partial_fit(first)
    with pytest.raises(
        NotFittedError,
        match=r"SharedSpecificKMeans instance is not fitted yet: expected 1024 rows from partial_fit, go",
    ):
        quantizer.encode(X)
    with pytest.raises(InvalidValueError, match=r"view 'semantic' has another dim: expected 24, got 3\."):
        quantizer.partial_fit(second | {"semantic": second["semantic"][:, :3]})
    quantizer.partial_fit(second).partial_fit({view: part[:24] for view, part in rest.items()})
    whole = SharedSpecificKMeans(1, 1, 16).fit({view: part[:1024] for view, part in X.items()})
    assert_same(quantizer.encode(X), whole.encode(X))


def test_the_scaling_stays_after_the_first_rows(X):
    fitted = SharedSpecificKMeans(1, 1, 8).fit(X)
    before = dict(fitted.scaling_)
    fitted.partial_fit({view: 3 * part + 1 for view, part in X.items()})
    assert fitted.scaling_ == before


@pytest.mark.parametrize("kind", ["mappings", "generator", "iterables", "parquet", "parquet and array"])
def test_batches_give_the_same_as_arrays(X, one_two, tmp_path, kind):
    sizes = {"semantic": 400, "collaborative": 130}

    def parquet(view):
        pa = pytest.importorskip("pyarrow")
        path = tmp_path / f"{view}.parquet"
        pytest.importorskip("pyarrow.parquet").write_table(pa.table({view: list(X[view])}), path)
        return path

    def source():
        if kind == "mappings":
            return batches_of(X, 400)
        if kind == "generator":
            return (batch for batch in [*batches_of(X, 400), {view: part[:0] for view, part in X.items()}])
        if kind == "iterables":
            return {view: [each[view] for each in batches_of(X, sizes[view])] for view in VIEWS}
        return {"semantic": parquet("semantic"), "collaborative": X["collaborative"] if "and" in kind else
                parquet("collaborative")}  # fmt: skip

    streamed = clone(one_two).fit(source())
    assert_same(streamed.encode(source(), beam=2), one_two.encode(X, beam=2))
    with_arrays = clone(one_two).fit(X).partial_fit(X)
    if kind in {"mappings", "generator"}:
        with_arrays = clone(one_two).fit(X)
        for batch in batches_of(X, 400):
            with_arrays.partial_fit(batch)
    if kind != "iterables":  # whose common batches are cut where either ends
        assert_same(streamed.partial_fit(source()).encode(X), with_arrays.encode(X))


def test_a_stream_is_sampled(X):
    quantizer = SharedSpecificKMeans(1, 1, 8, sample_size=300)
    sampled = quantizer.fit(batches_of(X, 200))
    assert sum(sampled.shared_counts_[0]) == 300
    assert_same(sampled.encode(X), clone(quantizer).fit(batches_of(X, 200)).encode(X))


@pytest.mark.parametrize(
    "X, text",
    [
        ([{"semantic": np.ones((9, 2))}], "X, batch 0, has no view 'collaborative'"),
        (
            [{"semantic": np.ones((9, 2)), "collaborative": np.ones((8, 2))}],
            "views differ in their number of items, batch 0: expected 9 as in 'semantic', got 8 in 'collaborative'.",
        ),
        (
            [{view: np.ones((9, dim)) for view in VIEWS} for dim in (2, 3)],
            "view 'semantic', batch 1, has another dim: expected 2, got 3.",
        ),
        (
            [{view: np.ones((9, 2)) for view in VIEWS}, {view: np.full((9, 2), np.nan) for view in VIEWS}],
            "view 'semantic', batch 1, contains NaN, infinity, or a square too large for float32: expected finite "
            "numbers, got nan at column 0 in row 0.",
        ),
        ([{view: np.ones((0, 2)) for view in VIEWS}], "X has too few items: expected at least 1, got n_samples=0 in"),
        (iter([]), "X has too few items: expected at least 1, got n_samples=0 in all batches. An iterator can be read"),
        ([{view: np.ones((3, 2)) for view in VIEWS}], "too few items for level 0: expected at least 4, its codebook_s"),
        (
            {"semantic": [np.ones((9, 2)), np.ones((3, 2))], "collaborative": np.ones((11, 2))},
            "views differ in their number of items: expected 12 as in 'semantic', got 11 in 'collaborative'.",
        ),
        (
            {"semantic": [np.ones((9, 2)), np.full((3, 2), np.inf)], "collaborative": np.ones((12, 2))},
            "view 'semantic', batch 1, contains NaN, infinity",
        ),
    ],
)
def test_wrong_batches_are_refused(X, text):
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        SharedSpecificKMeans(1, 1, 4).fit(X)


def test_batches_of_another_dim_than_that_of_the_fit_are_refused(X, one_two):
    narrow = X | {"semantic": X["semantic"][:, :3]}
    for source in (batches_of(narrow, 500), narrow | {"collaborative": [X["collaborative"]]}):
        with pytest.raises(InvalidValueError, match=r"view 'semantic'.* has another dim: expected 24, got 3\."):
            one_two.encode(source)


def test_one_view_is_a_residual_quantizer_in_two_stages(X):
    one = {"semantic": X["semantic"]}
    quantizer = SharedSpecificKMeans(1, 2, 16, views=("semantic",)).fit(one)
    Z, codes = quantizer.standardize(one)["semantic"], quantizer.encode(one)["semantic"]
    assert (codes == residual_encode_oracle(Z, quantizer.codebooks["semantic"])).mean() > 0.999
    plain = ResidualKMeans(3, 16).fit(X["semantic"])
    error = ((X["semantic"] - quantizer.decode({"semantic": codes})["semantic"]) ** 2).sum()
    assert error < 1.1 * ((X["semantic"] - plain.decode(plain.encode(X["semantic"]))) ** 2).sum()


def test_auto_is_saved_as_what_it_stood_for(X, tmp_path):
    fitted = SharedSpecificKMeans(1, 1, "auto").fit(X)
    fitted.save_pretrained(tmp_path)
    loaded = SharedSpecificKMeans.from_pretrained(tmp_path)
    assert fitted.codebook_sizes == loaded.codebook_sizes == tuple(loaded.codebook_size) == (32, 32)


def nan_in_row_3(part):
    return np.where(np.arange(len(part))[:, None] == 3, np.nan, part)


@pytest.mark.parametrize(
    "change, error, text",
    [
        (
            lambda X: X | {"collaborative": X["collaborative"][:7]},
            InvalidValueError,
            "views differ in their number of items: "
            "expected 1500 as in 'semantic', got 7 in 'collaborative'. Row i of every view must be item i.",
        ),
        (
            lambda X: {"semantic": X["semantic"]},
            InvalidValueError,
            "X has no view 'collaborative': expected 'semantic', "
            "'collaborative', got 'semantic'. Correct the names, or the quantizer's views.",
        ),
        (
            lambda X: X | {"text": X["semantic"]},
            InvalidValueError,
            "X has an unknown view 'text': expected 'semantic', ",
        ),
        (
            lambda X: X["semantic"],
            InvalidTypeError,
            "X is not a mapping: expected one array for each of 'semantic', 'collaborative', got ndarray. Pass a dict.",
        ),
        (
            lambda X: X | {"semantic": nan_in_row_3(X["semantic"])},
            InvalidValueError,
            "view 'semantic' contains NaN, infinity, "
            "or a square too large for float32: expected finite numbers, got nan at column 0 in row 3.",
        ),
        (
            lambda X: X | {"semantic": X["semantic"][0]},
            InvalidValueError,
            "view 'semantic' has a wrong shape: expected (n",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "encode", "standardize"])
def test_wrong_views_are_refused(X, one_two, verb, change, error, text):
    with pytest.raises(error, match=re.escape(text)):
        getattr(clone(one_two) if verb == "fit" else one_two, verb)(change(X))


def test_another_dim_than_that_of_the_fit_is_refused(X, one_two):
    with pytest.raises(InvalidValueError, match=r"view 'semantic' has another dim: expected 24, got 3\."):
        one_two.encode(X | {"semantic": X["semantic"][:, :3]})


@pytest.mark.parametrize(
    "codes, text",
    [
        (
            {"semantic": [[1, 0, 0]], "collaborative": [[2, 0, 0]]},
            "codes of views 'semantic' and 'collaborative' disagree in the shared levels of row 0: expected [1], got "
            "[2]. The first 1 levels belong to all views.",
        ),
        (
            {"semantic": [[1, 0, 0]], "collaborative": [[1, 0, 8]]},
            "codes['collaborative'] lies outside the codebook: expected 0 to 7 at level 2, got 8 in row 0.",
        ),
        (
            {"semantic": [[1, 0, 0]] * 2, "collaborative": [[1, 0, 0]]},
            "codes of views 'semantic' and 'collaborative' disagree: expected 2 rows, got 1.",
        ),
        (
            {"semantic": [[1, 0, 0]]},
            "codes has no view 'collaborative': expected 'semantic', 'collaborative', got 'semantic'.",
        ),
    ],
)
def test_wrong_codes_are_refused(one_two, codes, text):
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        one_two.decode(codes)


@pytest.mark.parametrize("call", [
    lambda q: q.encode({}), lambda q: q.decode({}), lambda q: q.standardize({}), lambda q: q.codebooks,
    lambda q: q.shared_quantizer, lambda q: q.specific_quantizers, lambda q: q.save_pretrained("never"),
], ids=["encode", "decode", "standardize", "codebooks", "shared", "specific", "save_pretrained"])  # fmt: skip
def test_before_fit_everything_says_so(call):
    with pytest.raises(NotFittedError, match="This SharedSpecificKMeans instance is not fitted yet"):
        call(SharedSpecificKMeans())
