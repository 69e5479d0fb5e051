import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from oracles import residual_encode_oracle
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.quantizers import ResidualKMeans


@pytest.fixture(scope="module")
def fitted(X):
    return ResidualKMeans(3, (32, 16, 8)).fit(X)


def mean_distortion(X, decoded):
    return ((X - decoded) ** 2).sum(axis=1).mean()


# The check of array API inputs runs only under SCIPY_ARRAY_API=1; left to itself it warns that it was skipped.
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input:sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([ResidualKMeans(2, 2)])
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


def test_codes_agree_with_the_float64_loop(X, fitted):
    codes, expected = fitted.encode(X), residual_encode_oracle(X, fitted.codebooks)
    differ = np.flatnonzero((codes != expected).any(axis=1))
    assert len(differ) < 5
    for row in differ:  # only ties
        ours, theirs = (((X[row] - fitted.decode(c[row : row + 1])) ** 2).sum() for c in (codes, expected))
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_beam_1_is_greedy_and_the_first_candidate_is_the_encoding(X, fitted):
    for beam in (1, 4):
        codes, cost = fitted.candidates(X, count=5, beam=beam)
        np.testing.assert_array_equal(codes[:, 0] if beam > 1 else fitted.encode(X), fitted.encode(X, beam=beam))
        assert (np.diff(cost, axis=1) >= 0).all()
        np.testing.assert_allclose(cost[:, 0], ((X - fitted.decode(codes[:, 0])) ** 2).sum(axis=1), atol=1e-5)


def test_a_beam_lowers_the_distortion(X, fitted):
    greedy, wide = (mean_distortion(X, fitted.decode(fitted.encode(X, beam=beam))) for beam in (1, 8))
    assert wide < greedy


def kmeans_per_level(X, sizes):
    rest = np.array(X)
    for size in sizes:
        kmeans = KMeans(size, n_init=1, max_iter=25, random_state=0).fit(rest)
        rest -= kmeans.cluster_centers_[kmeans.labels_]
    return mean_distortion(rest, 0.0)


@pytest.mark.parametrize("init, slack", [("progressive", 0.02), ("k-means++", 0.01)])
def test_distortion_is_near_that_of_scikit_learn_per_level(make_clustered, init, slack):
    X = make_clustered(6000, 64)
    quantizer = ResidualKMeans(3, 64, init=init).fit(X)
    assert mean_distortion(X, quantizer.decode(quantizer.encode(X))) < (1 + slack) * kmeans_per_level(X, (64,) * 3)


@pytest.mark.parametrize("init", ["progressive", "k-means++"])
def test_the_seed_alone_decides(X, init):
    first, again, other = (ResidualKMeans(2, 16, seed=seed, init=init).fit(X) for seed in (1, 1, 2))
    for left, right in zip(first.codebooks, again.codebooks, strict=True):
        np.testing.assert_array_equal(left, right)
    assert (first.codebooks[0] != other.codebooks[0]).any()


FIT_AND_HASH = """
import hashlib, sys
import numpy as np
from semid.quantizers import ResidualKMeans
X = np.load(sys.argv[1])
quantizer = ResidualKMeans(2, 48).fit(X)
arrays = [*quantizer.codebooks, *quantizer.candidates(X, count=3, beam=4)]
print(hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest())
"""


def test_one_and_two_threads_give_the_same_bits(make_clustered, tmp_path):
    np.save(tmp_path / "X.npy", make_clustered(5000, 48))
    hashes = set()
    for n_threads in ("1", "2"):
        environment = os.environ | {"OMP_NUM_THREADS": n_threads, "OPENBLAS_NUM_THREADS": n_threads}
        command = [sys.executable, "-c", FIT_AND_HASH, str(tmp_path / "X.npy")]
        hashes.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(hashes) == 1


def test_one_and_two_threads_give_the_same_bits_in_one_process(X, fitted):
    results = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            results.append(clone(fitted).fit(X).candidates(X, count=2, beam=2))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_files_tensors_and_arrays_give_the_same(X, fitted, tmp_path):
    import torch

    np.save(tmp_path / "X.npy", X)
    expected = fitted.encode(X)
    for source in (
        tmp_path / "X.npy",
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        torch.tensor(X),
        X.astype(np.float64),
    ):
        np.testing.assert_array_equal(fitted.encode(source), expected)
        np.testing.assert_array_equal(clone(fitted).fit(source).codebooks[0], fitted.codebooks[0])


def test_only_the_sample_is_read(X):
    spoilt = X.copy()
    quantizer = ResidualKMeans(2, 8, sample_size=500).fit(spoilt)
    unread = np.setdiff1d(
        np.arange(2000), np.sort(np.random.default_rng(0).choice(2000, 500, replace=False, shuffle=False))
    )
    spoilt[unread] = np.nan
    again = ResidualKMeans(2, 8, sample_size=500).fit(spoilt)
    np.testing.assert_array_equal(again.codebooks[1], quantizer.codebooks[1])
    with pytest.raises(InvalidValueError, match=rf"got nan at column 0 in row {unread[0]}\."):
        again.encode(spoilt)


@pytest.mark.parametrize("n_distinct", [1, 3, 7])
def test_fewer_distinct_items_than_codes_are_met_exactly(rng, n_distinct):
    X = np.repeat(rng.normal(size=(n_distinct, 6)).astype(np.float32), 10, axis=0)
    quantizer = ResidualKMeans(2, 8).fit(X)
    np.testing.assert_allclose(quantizer.decode(quantizer.encode(X)), X, atol=1e-6)
    assert all(np.isfinite(book).all() and len(book) == 8 for book in quantizer.codebooks)
    assert len(np.unique(quantizer.encode(X), axis=0)) == n_distinct


def test_many_copies_of_few_items_use_all_codes(rng):
    few = rng.normal(size=(20, 6)).astype(np.float32)
    X = np.concatenate([np.repeat(few[:1], 500, axis=0), few])
    codes = ResidualKMeans(1, 16).fit(X).encode(X)
    assert len(np.unique(codes)) == 16


def test_as_many_items_as_codes():
    X = np.eye(4, dtype=np.float32)
    quantizer = ResidualKMeans(1, 4).fit(X)
    np.testing.assert_allclose(quantizer.decode(quantizer.encode(X)), X, atol=1e-6)


def test_transform_and_inverse_transform_are_encode_and_decode(X, fitted):
    np.testing.assert_array_equal(fitted.transform(X), fitted.encode(X))
    np.testing.assert_array_equal(fitted.inverse_transform(fitted.encode(X)), fitted.decode(fitted.encode(X)))
    assert clone(fitted).set_output(transform="default").fit_transform(X).shape == (2000, 3)
    assert fitted.get_feature_names_out().tolist() == ["residualkmeans0", "residualkmeans1", "residualkmeans2"]


def test_codebooks_from_elsewhere(X, fitted):
    import torch

    quantizer = ResidualKMeans.from_codebooks([torch.tensor(book) for book in fitted.codebooks])
    np.testing.assert_array_equal(quantizer.encode(X), fitted.encode(X))
    assert quantizer.codebook_sizes == (32, 16, 8) and quantizer.dim == 32


@pytest.mark.parametrize("mmap", [False, True])
def test_saved_and_loaded_it_is_the_same(X, fitted, tmp_path, mmap):
    fitted.save_pretrained(tmp_path / "quantizer")
    loaded = ResidualKMeans.from_pretrained(tmp_path / "quantizer", mmap=mmap)
    np.testing.assert_array_equal(loaded.encode(X, beam=3), fitted.encode(X, beam=3))
    assert loaded.get_params() == fitted.get_params() | {"codebook_size": [32, 16, 8]}
    assert "embeddings of 32 dimensions to 3 codes" in (tmp_path / "quantizer" / "README.md").read_text()


def test_pickled_it_is_the_same(X, fitted):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).encode(X), fitted.encode(X))


def test_an_interrupted_fit_leaves_it_as_it_was(X, fitted, monkeypatch):
    quantizer = pickle.loads(pickle.dumps(fitted))

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("semid.quantizers.residual.train_levels", interrupt)
        with pytest.raises(KeyboardInterrupt):
            quantizer.fit(X[:, :5])
        with pytest.raises(KeyboardInterrupt):
            quantizer.fit([X[:500, :5], X[500:, :5]])
    np.testing.assert_array_equal(quantizer.encode(X), fitted.encode(X))


def test_parameters_of_the_next_fit_do_not_change_what_is_saved(X, fitted, tmp_path):
    changed = pickle.loads(pickle.dumps(fitted)).set_params(n_levels=5, codebook_size=4)
    changed.save_pretrained(tmp_path)
    loaded = ResidualKMeans.from_pretrained(tmp_path)
    assert loaded.n_levels == 3 and loaded.codebook_sizes == (32, 16, 8)
    assert len(changed.get_feature_names_out()) == 3
    np.testing.assert_array_equal(loaded.encode(X), fitted.encode(X))


def test_the_best_of_a_search_is_saved(X, tmp_path):
    search = GridSearchCV(ResidualKMeans(1, 8), {"seed": np.arange(2)}, scoring=lambda q, X: 0.0, cv=2).fit(X[:200])
    search.best_estimator_.save_pretrained(tmp_path)
    assert ResidualKMeans.from_pretrained(tmp_path).seed == 0


@pytest.mark.parametrize("codebook_size", [16, [16]])
def test_a_level_is_never_dropped_in_silence(X, tmp_path, codebook_size):
    ResidualKMeans(2, 16).fit(X).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("checksum")  # as if whoever made it had no need of one
    for change in ({}, {"n_levels": 1}):
        (tmp_path / "config.json").write_text(json.dumps(config | {"codebook_size": codebook_size} | change))
        with pytest.raises(FormatError, match=r"1 codebook sizes for 2 levels|arrays codebook_1, counts_1 besides"):
            ResidualKMeans.from_pretrained(tmp_path)


def test_a_folder_whose_parts_do_not_fit_is_refused(fitted, tmp_path):
    fitted.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("checksum")  # as if whoever made it had no need of one
    for codebook_size, got in [
        ([32, 16, 9], r"codebook_2 of shape \(8, 32\), not \(9, any\)"),
        ([32] * 4, "4 codebook sizes for 3 levels"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(config | {"codebook_size": codebook_size}))
        with pytest.raises(FormatError, match=rf"is damaged: expected parameters and arrays .* {got}.*Save it again"):
            ResidualKMeans.from_pretrained(tmp_path)


@pytest.mark.parametrize("call", [
    lambda q: q.encode(np.eye(2)), lambda q: q.decode([[0]]), lambda q: q.candidates(np.eye(2), count=1, beam=1),
    lambda q: q.codebooks, lambda q: q.dim, lambda q: q.save_pretrained("never"),
], ids=["encode", "decode", "candidates", "codebooks", "dim", "save_pretrained"])  # fmt: skip
def test_before_fit_everything_says_so(call):
    with pytest.raises(NotFittedError, match="This ResidualKMeans instance is not fitted yet"):
        call(ResidualKMeans())


@pytest.mark.parametrize(
    "params, error, text",
    [
        ({"n_levels": 0}, InvalidValueError, "n_levels is too small: expected 1 or more, got 0."),
        ({"codebook_size": (8, 8)}, InvalidValueError, "expected one size for each of 3 levels, got 2."),
        (
            {"codebook_size": 3000},
            InvalidValueError,
            "too few items for level 0: expected at least 3000, its codebook_size, "
            "got n_samples=2000. Give more items, lower codebook_size, or set it to 'auto'.",
        ),
        (
            {"sample_size": 7, "codebook_size": 8},
            InvalidValueError,
            "sample_size is too small for level 0: expected at least 8",
        ),
        ({"sample_size": "all"}, InvalidTypeError, "sample_size is not an integer: expected 1 or more, got 'all'."),
        ({"max_iter": 0}, InvalidValueError, "max_iter is too small: expected 1 or more, got 0."),
        (
            {"init": "pca"},
            InvalidValueError,
            "init is unknown: expected 'progressive', 'k-means++', 'random', got 'pca'.",
        ),
        ({"seed": -1}, InvalidValueError, "seed is too small: expected 0 or more, got -1."),
    ],
)
def test_wrong_parameters_are_refused_by_fit(X, params, error, text):
    with pytest.raises(error, match=re.escape(text)):
        ResidualKMeans(**params).fit(X)


@pytest.mark.parametrize(
    "call, text",
    [
        (
            lambda q: q.encode(np.eye(4)),
            "X has 4 features, but ResidualKMeans is expecting 32 features as input. Use the",
        ),
        (lambda q: q.encode(np.zeros(32)), "X has a wrong shape: expected (n_items, dim), got (32,)."),
        (lambda q: q.encode(np.full((2, 32), np.nan)), "X contains NaN, infinity, or a square too large for float32"),
        (lambda q: q.encode(np.eye(32), beam=0), "beam is too small: expected 1 or more, got 0."),
        (lambda q: q.candidates(np.eye(32), beam=1, count=0), "count is too small: expected 1 or more, got 0."),
        (
            lambda q: q.decode([[0, 0, 8]]),
            "codes lies outside the codebook: expected 0 to 7 at level 2, got 8 in row 0.",
        ),
        (lambda q: q.decode([[0, 0]]), "codes has a wrong shape: expected (n_items, 3), got (1, 2)."),
        (
            lambda q: q.from_codebooks([]),
            "codebooks are empty: expected one array per level, got none. Pass at least one.",
        ),
        (lambda q: q.from_codebooks([np.eye(2), np.eye(3)]), "codebooks[1] has another dim: expected 2, got 3."),
    ],
)
def test_wrong_calls_are_refused(fitted, call, text):
    with pytest.raises(InvalidValueError, match=re.escape(text)):
        call(fitted)


def test_data_frames_keep_their_column_names(X, fitted):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=[f"x{column}" for column in range(32)])
    quantizer = clone(fitted).fit(frame)
    assert quantizer.feature_names_in_.tolist() == list(frame.columns)
    np.testing.assert_array_equal(quantizer.encode(frame), fitted.encode(X))
    with pytest.raises(InvalidValueError, match=r"feature names should match.*Use the embedding model of the fit\."):
        quantizer.encode(frame[frame.columns[::-1]])


def test_import_semid_leaves_scikit_learn_and_numba_out():
    command = "import sys, semid; print(sorted({'sklearn', 'numba', 'torch'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "[]"
