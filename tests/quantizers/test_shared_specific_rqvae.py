"""The quantizer from outside: shapes, the recursion by its own codebooks, saving, resuming, messages."""

import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from oracles import perceptron_oracle, residual_encode_oracle
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import semid
from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.quantizers import ResidualKMeans, Training
from semid.quantizers.networks.options import RECIPES, Recipe
from semid.quantizers.shared_specific_rqvae import SharedSpecificRQVAE

VIEWS = ("semantic", "collaborative")
QUICK = Recipe(training=Training(epochs=3, warmup_epochs=3, batch_size=128, learning_rate=5e-3, device="cpu"))
PUBLISHED = replace(RECIPES["gensar"], training=replace(RECIPES["gensar"].training, epochs=12, batch_size=128))


def small(n_shared=1, n_specific=2, codebook_size=16, **params):
    return SharedSpecificRQVAE(
        n_shared, n_specific, codebook_size, **{"hidden_sizes": (32,), "latent_dim": 8, "recipe": QUICK} | params
    )


@pytest.fixture(scope="module")
def X(make_clustered):
    """Two views that agree on a part of their directions, in very different units."""
    semantic = make_clustered(1000, 24)
    noise = np.random.default_rng(1).standard_normal((1000, 8), dtype=np.float32)
    return {"semantic": semantic, "collaborative": 100 * (semantic[:, :8] + 0.1 * noise) + 7}


@pytest.fixture(
    scope="module", params=[(1, 2), (2, 1), (0, 2), (2, 0)], ids=lambda n: f"{n[0]} shared, {n[1]} specific"
)
def fitted(request, X):
    return small(*request.param).fit(X)


@pytest.fixture(scope="module")
def one_two(X):
    return small(1, 2, (32, 16, 8), latent_dim={"semantic": 8, "collaborative": 4}).fit(X)


def relative_errors(quantizer, X):
    decoded = quantizer.decode(quantizer.encode(X))
    return [float(((X[view] - decoded[view]) ** 2).sum() / ((X[view] - X[view].mean(0)) ** 2).sum()) for view in X]


def test_shapes_dtypes_and_shared_columns(X, fitted):
    codes = fitted.encode(X)
    assert list(codes) == list(VIEWS) and fitted.codebook_sizes == (16,) * fitted.n_levels
    for view in VIEWS:
        assert codes[view].shape == (1000, fitted.n_levels) and codes[view].dtype == np.uint8
        np.testing.assert_array_equal(codes[view][:, : fitted.n_shared], codes["semantic"][:, : fitted.n_shared])
        assert [book.shape for book in fitted.codebooks[view]] == [(16, 8)] * fitted.n_levels
        decoded = fitted.decode(codes)[view]
        assert decoded.shape == X[view].shape and decoded.dtype == np.float32


def test_quantizers_of_no_levels_are_none(fitted):
    assert (fitted.shared_quantizer is None) == (fitted.n_shared == 0)
    assert all((part is None) == (fitted.n_specific == 0) for part in fitted.specific_quantizers.values())
    for part in (fitted.shared_quantizer, *fitted.specific_quantizers.values()):
        assert part is None or isinstance(part, ResidualKMeans)


def test_codes_are_residual_codes_of_the_latents(X, one_two):
    latents = one_two.standardize(X)
    for view, z in latents.items():
        scaling = one_two.scaling_[view]
        scaled = (X[view].astype(np.float64) - scaling.mean) * scaling.factor
        layers = [(weight.T, bias) for weight, bias in one_two.encoders_[view]]
        np.testing.assert_allclose(z, perceptron_oracle(scaled, layers), rtol=1e-3, atol=1e-3)
    codes, joined = one_two.encode(X), np.concatenate(list(latents.values()), axis=1)
    shared = residual_encode_oracle(joined, one_two.shared_quantizer.codebooks)
    assert (codes["semantic"][:, :1] == shared).mean() > 0.999
    rest = joined - one_two.shared_quantizer.decode(codes["semantic"][:, :1])
    for view, columns in zip(VIEWS, (slice(0, 8), slice(8, 12)), strict=True):
        specific = residual_encode_oracle(rest[:, columns], one_two.specific_quantizers[view].codebooks)
        assert (codes[view][:, 1:] == specific).mean() > 0.999


def test_decoding_is_the_decoder_on_the_sum_of_the_centroids(X, one_two):
    codes = {view: rows[:40] for view, rows in one_two.encode(X).items()}
    for view, books in one_two.codebooks.items():
        summed = sum(book[codes[view][:, level]] for level, book in enumerate(books))
        layers = [(weight.T, bias) for weight, bias in one_two.decoders_[view]]
        expected = perceptron_oracle(summed, layers) / one_two.scaling_[view].factor + one_two.scaling_[view].mean
        np.testing.assert_allclose(one_two.decode(codes)[view], expected, rtol=1e-3, atol=1e-3)


def test_views_enter_the_encoders_with_one_variance_per_dimension(X, one_two):
    for view, scaling in one_two.scaling_.items():
        scaled = (X[view] - scaling.mean) * scaling.factor
        assert scaled.mean() == pytest.approx(0, abs=1e-3) and (scaled**2).mean() == pytest.approx(1, rel=1e-3)


def test_a_beam_finds_nearer_codes(X, one_two):
    Z = np.concatenate(list(one_two.standardize(X).values()), axis=1)

    def distance(codes):
        sums = [sum(book[codes[view][:, level]] for level, book in enumerate(books))
                for view, books in one_two.codebooks.items()]  # fmt: skip
        return ((Z - np.concatenate(sums, axis=1)) ** 2).sum()

    assert distance(one_two.encode(X, beam=8)) < distance(one_two.encode(X))


def test_the_resolver_makes_ids_unique_and_keeps_shared_codes_common(X, one_two):
    resolution = semid.resolve(one_two, X)
    for view in VIEWS:
        assert len(np.unique(resolution.codes[view], axis=0)) == 1000
    np.testing.assert_array_equal(resolution.codes["semantic"][:, 0], resolution.codes["collaborative"][:, 0])
    assert resolution.n_collisions_after == 0


def test_the_report_reads_it(X, one_two):
    report = semid.report(X, one_two.encode(X), one_two, sample=20)
    for view, error in zip(VIEWS, relative_errors(one_two, X), strict=True):
        assert report.views[view].relative_distortion == pytest.approx(error, rel=1e-3)


def test_our_recipe_is_better_than_the_published_one(X):
    ours, published = small(2, 2).fit(X), small(2, 2, recipe=PUBLISHED).fit(X)
    assert (np.array(relative_errors(ours, X)) < relative_errors(published, X)).all()
    for view in VIEWS:
        ids, others = (len(np.unique(quantizer.encode(X)[view], axis=0)) for quantizer in (ours, published))
        assert ids > others


def test_the_published_recipe_is_the_published_one():
    recipe = RECIPES["gensar"]
    training = recipe.training
    assert (training.epochs, training.batch_size, training.learning_rate, training.weight_decay) == (
        500,
        1024,
        1e-3,
        1e-5,
    )
    assert training.rise * training.epochs == 50 and training.schedule == "linear" and training.clip_norm == 1
    assert (recipe.commitment, recipe.sinkhorn_epsilon, recipe.sinkhorn_iterations) == (0.25, 0.003, 50)
    assert (recipe.criterion, recipe.evaluate_every, training.patience, training.validation_share) == (
        "collisions", 10, 0, 0,
    )  # fmt: skip


def test_the_published_recipe_keeps_the_checkpoint_of_fewest_collisions(X):
    quantizer = small(1, 1, recipe=replace(PUBLISHED, evaluate_every=3)).fit(X)
    judged = {record["epoch"]: record["collisions"] for record in quantizer.history_ if "collisions" in record}
    assert list(judged) == [3, 6, 9, 12]
    codes = quantizer.encode(X)
    rate = np.mean([1 - len(np.unique(codes[view], axis=0)) / 1000 for view in VIEWS])
    assert rate == pytest.approx(min(judged.values()), abs=0.002)
    for scaling in quantizer.scaling_.values():
        assert not scaling.mean.any() and scaling.factor == 1


@pytest.mark.parametrize("warmup_epochs", [0, 3])
def test_nearly_all_codes_are_used_after_five_epochs(make_clustered, warmup_epochs):
    X = dict(zip(VIEWS, (make_clustered(4000, 32), make_clustered(4000, 12, seed=1)), strict=True))
    recipe = Recipe(training=replace(QUICK.training, epochs=5, warmup_epochs=warmup_epochs))
    codes = small(2, 2, 64, hidden_sizes=(48,), latent_dim=16, recipe=recipe).fit(X).encode(X)
    assert all(len(np.unique(column)) >= 0.95 * 64 for view in VIEWS for column in codes[view].T)


def test_the_history_tells_what_happened(one_two):
    history = one_two.history_
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5, 6]
    assert all("quantization" not in record for record in history[:3])
    assert all({"loss", "error", "n_revived", "quantization"} <= set(record) for record in history[3:])
    assert history[2]["loss"] < history[0]["loss"] and json.dumps(history)


def test_batches_teach_it_too(X):
    quantizer = small()
    for first in (0, 500, 0, 500):
        quantizer.partial_fit({view: part[first : first + 500] for view, part in X.items()})
    assert [set(record) for record in quantizer.history_] == [{"loss", "reconstruction", "quantization"}] * 4
    assert quantizer.history_[-1]["reconstruction"] < quantizer.history_[0]["reconstruction"]
    assert max(relative_errors(quantizer, X)) < 1
    repeated = small()
    for first in (0, 500, 0, 500):
        repeated.partial_fit({view: part[first : first + 500] for view, part in X.items()})
    np.testing.assert_array_equal(repeated.encode(X)["semantic"], quantizer.encode(X)["semantic"])


def test_after_a_fit_or_a_load_batches_go_on_from_there(X, one_two, tmp_path):
    one_two.save_pretrained(tmp_path / "quantizer")
    loaded = SharedSpecificRQVAE.from_pretrained(tmp_path / "quantizer")
    before = relative_errors(loaded, X)
    for _ in range(4):
        loaded.partial_fit(X)
    assert sum(relative_errors(loaded, X)) < sum(before)
    assert len(loaded.history_) == len(one_two.history_) + 4
    with pytest.raises(InvalidValueError, match="has another dim"):
        loaded.partial_fit(X | {"semantic": X["semantic"][:, :3]})


def test_a_first_batch_needs_as_many_items_as_codes(X):
    for recipe in (QUICK, PUBLISHED):
        with pytest.raises(InvalidValueError, match=r"expected at least 16"):
            small(recipe=recipe).partial_fit({view: part[:9] for view, part in X.items()})


def test_a_weight_lowers_the_error_of_its_view(X):
    light, heavy = (relative_errors(small(2, 0, view_weights={"collaborative": w}).fit(X), X)[1] for w in (0.01, 100))
    assert heavy < light


def test_three_views_of_any_name_and_a_constant_one(rng):
    X = {view: rng.normal(size=(60, dim)) for view, dim in (("a/b", 3), ("ü.1", 4))} | {"flat": np.full((60, 2), 5.0)}
    quantizer = small(1, 1, 8, views=("a/b", "ü.1", "flat")).fit(X)
    decoded = quantizer.decode(quantizer.encode(X))
    np.testing.assert_allclose(decoded["flat"], 5, atol=0.5)
    assert decoded["a/b"].shape == (60, 3)


def test_equal_items_fit(rng):
    X = {view: np.repeat(rng.normal(size=(4, 3)), 20, axis=0) for view in VIEWS}
    for recipe in (QUICK, PUBLISHED):
        codes = small(1, 1, 8, recipe=recipe).fit(X).encode(X)
        assert all(len(np.unique(codes[view], axis=0)) <= 4 for view in VIEWS)


def test_a_seed_repeats_a_fit_and_another_changes_it(X, one_two):
    again = clone(one_two).fit(X)
    for view, codes in again.encode(X).items():
        np.testing.assert_array_equal(codes, one_two.encode(X)[view])
    other = clone(one_two).set_params(seed=1).fit(X)
    assert (other.encode(X)["semantic"] != one_two.encode(X)["semantic"]).mean() > 0.5


def test_files_and_half_precision_give_nearly_the_same(X, one_two, tmp_path):
    for view, part in X.items():
        np.save(tmp_path / f"{view}.npy", part)
    paths = {view: tmp_path / f"{view}.npy" for view in X}
    for view, codes in one_two.encode(paths).items():
        np.testing.assert_array_equal(codes, one_two.encode(X)[view])
    halves = one_two.encode({view: part.astype(np.float16) for view, part in X.items()})
    assert (halves["semantic"] == one_two.encode(X)["semantic"]).mean() > 0.95


def test_blocks_of_rows_make_no_difference(X, one_two, monkeypatch):
    expected = one_two.encode(X)
    monkeypatch.setattr("semid.quantizers.shared_levels.BLOCK_ROWS", 256)
    for view, codes in one_two.encode(X).items():
        assert (codes == expected[view]).mean() > 0.999


@pytest.mark.parametrize("mmap", [False, True])
def test_saved_and_loaded_it_is_the_same(X, fitted, tmp_path, mmap):
    fitted.save_pretrained(tmp_path / "quantizer")
    loaded = SharedSpecificRQVAE.from_pretrained(tmp_path / "quantizer", mmap=mmap)
    codes = fitted.encode(X, beam=2)
    for view in VIEWS:
        np.testing.assert_array_equal(loaded.encode(X, beam=2)[view], codes[view])
        np.testing.assert_array_equal(loaded.decode(codes)[view], fitted.decode(codes)[view])
    assert loaded.get_params() == fitted.get_params() | {"codebook_size": [16] * fitted.n_levels}
    assert loaded.history_ == fitted.history_


def test_loading_and_encoding_need_no_torch(one_two, tmp_path):
    one_two.save_pretrained(tmp_path / "quantizer")
    program = (
        "import sys, numpy as np, semid\n"
        f"q = semid.SharedSpecificRQVAE.from_pretrained({str(tmp_path / 'quantizer')!r})\n"
        "q.decode(q.encode({'semantic': np.ones((3, 24)), 'collaborative': np.ones((3, 8))}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("key", ["n_shared", "latent_dims", "recipe", "hidden_sizes"])
def test_a_damaged_folder_is_refused(one_two, tmp_path, key):
    folder = tmp_path / "quantizer"
    one_two.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("checksum")  # as if whoever made it had no need of one
    config[key] = {"n_shared": 2, "latent_dims": [8], "recipe": {"unknown": 1}, "hidden_sizes": [31]}[key]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match=r"is damaged: expected parameters and arrays that belong togeth"):
        SharedSpecificRQVAE.from_pretrained(folder)


@pytest.mark.parametrize(
    "params, text",
    [
        ({"n_shared": 2, "n_specific": 1}, "n_shared is not that of the fit: expected 1, got 2. Set it back with"),
        (
            {"views": ("a", "b")},
            "views is not that of the fit: expected ('semantic', 'collaborative'), got ('a', 'b').",
        ),
        ({"hidden_sizes": (8,)}, "hidden_sizes is not that of the fit: expected (32,), got (8,)."),
        ({"latent_dim": 4}, "latent_dim is not that of the fit: expected {'semantic': 8, 'collaborative': 4}, got {"),
    ],
)
def test_parameters_that_shape_what_was_learnt_cannot_change(X, one_two, tmp_path, params, text):
    codes = one_two.encode(X)
    changed = pickle.loads(pickle.dumps(one_two)).set_params(**params)
    calls = [changed.encode, changed.standardize, changed.partial_fit, lambda _: changed.decode(codes)]
    for call in (*calls, lambda _: changed.save_pretrained(tmp_path)):
        with pytest.raises(InvalidValueError, match=re.escape(text)):
            call(X)
    assert not list(tmp_path.iterdir()) and changed.codebook_sizes == one_two.codebook_sizes


def test_large_seeds_start_from_a_batch_too(X):
    small(recipe=replace(QUICK, start="first-batch"), seed=2**40).fit(X)


def test_another_class_is_refused(X, tmp_path):
    ResidualKMeans(1, 4).fit(X["semantic"]).save_pretrained(tmp_path / "quantizer")
    with pytest.raises(FormatError, match=r"expected SharedSpecificRQVAE, got ResidualKMeans"):
        SharedSpecificRQVAE.from_pretrained(tmp_path / "quantizer")


class Interrupt:
    """Raises in the middle of a training run, as Ctrl-C does."""

    def __init__(self, monkeypatch, *, after):
        from semid.quantizers.networks import fitting

        self.left, original = after, fitting.relative_error

        def relative_error(*args):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return original(*args)

        monkeypatch.setattr(fitting, "relative_error", relative_error)


def test_an_interrupted_fit_leaves_the_quantizer_as_it_was(X, one_two, monkeypatch):
    expected, quantizer = one_two.encode(X), one_two
    with monkeypatch.context() as patch:
        Interrupt(patch, after=1)
        with pytest.raises(KeyboardInterrupt):
            quantizer.fit(X)
    np.testing.assert_array_equal(quantizer.encode(X)["semantic"], expected["semantic"])


def test_an_interrupted_fit_goes_on_from_its_checkpoint(X, one_two, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        Interrupt(patch, after=2)
        with pytest.raises(KeyboardInterrupt):
            clone(one_two).fit(X, checkpoint=tmp_path / "run.safetensors")
    resumed = clone(one_two).fit(X, checkpoint=tmp_path / "run.safetensors")
    for view, codes in resumed.encode(X).items():
        np.testing.assert_array_equal(codes, one_two.encode(X)[view])
    with pytest.raises(FormatError, match="belongs to another fit"):
        clone(one_two).set_params(hidden_sizes=(16,)).fit(X, checkpoint=tmp_path / "run.safetensors")


@pytest.mark.parametrize(
    "params, error, text",
    [
        ({"n_shared": 0, "n_specific": 0}, InvalidValueError, "n_shared + n_specific is too small"),
        ({"n_shared": -1}, InvalidValueError, "n_shared is too small: expected 0 or more, got -1."),
        ({"views": ("a", "a")}, InvalidValueError, "views are wrong: expected one or more different names"),
        ({"recipe": "best"}, InvalidValueError, "recipe is unknown: expected 'default' or 'gensar', got 'best'."),
        ({"recipe": 3}, InvalidTypeError, "recipe has a wrong type: expected a name or a Recipe, got int."),
        ({"latent_dim": 0}, InvalidValueError, "latent_dim is too small: expected 1 or more, got 0."),
        (
            {"latent_dim": {"text": 3}},
            InvalidValueError,
            "latent_dim has other views: expected 'semantic', 'collaborative', got 'text'. Give one number per view",
        ),
        ({"hidden_sizes": 64}, InvalidTypeError, "hidden_sizes has a wrong type: expected a sequence of integers, got"),
        ({"hidden_sizes": (0,)}, InvalidValueError, "hidden_sizes[0] is too small"),
        ({"view_weights": {"semantic": 0}}, InvalidValueError, "view_weights['semantic'] is out of range"),
        ({"seed": 0.5}, InvalidTypeError, "seed is not an integer"),
        ({"codebook_size": 2000}, InvalidValueError, "expected at least 2000, its codebook_size, got n_samples=1000."),
        (
            {"codebook_size": 300, "recipe": PUBLISHED},
            InvalidValueError,
            "the first batch is too small: expected at least 300 rows, the codebook_size, got 128. Raise batch_size",
        ),
    ],
)
def test_wrong_parameters_are_refused_by_fit(X, params, error, text):
    with pytest.raises(error, match=re.escape(text)):
        small(**params).fit(X)


@pytest.mark.parametrize(
    "settings, error, text",
    [
        ({"scaling": "max"}, InvalidValueError, "scaling is unknown: expected 'variance' or 'none', got 'max'."),
        ({"start": "zeros"}, InvalidValueError, "start is unknown: expected 'all-rows' or 'first-batch', got 'zeros'."),
        ({"criterion": "loss"}, InvalidValueError, "criterion is unknown: expected 'error' or 'collisions'"),
        ({"commitment": -1}, InvalidValueError, "commitment is out of range: expected 0 or more, got -1."),
        ({"evaluate_every": 0}, InvalidValueError, "evaluate_every is too small"),
        ({"training": "long"}, InvalidTypeError, "training has a wrong type: expected Training, got str. Pass semid"),
    ],
)
def test_wrong_recipes_are_refused(settings, error, text):
    with pytest.raises(error, match=re.escape(text)):
        Recipe(**settings)


def test_wrong_views_are_refused(X, one_two):
    nan = np.where(np.arange(1000)[:, None] == 3, np.nan, X["semantic"])
    for verb in (clone(one_two).fit, one_two.encode, one_two.standardize):
        with pytest.raises(InvalidValueError, match=r"view 'semantic' contains NaN.* got nan at column 0 in row 3\."):
            verb(X | {"semantic": nan})
        with pytest.raises(InvalidValueError, match="views differ in their number of items: expected 1000"):
            verb(X | {"collaborative": X["collaborative"][:7]})
    with pytest.raises(InvalidValueError, match=r"view 'semantic' has another dim: expected 24, got 3\."):
        one_two.encode(X | {"semantic": X["semantic"][:, :3]})
    with pytest.raises(
        InvalidValueError, match="codes of views 'semantic' and 'collaborative' disagree in the shared levels of row 0"
    ):
        one_two.decode({"semantic": [[1, 0, 0]], "collaborative": [[2, 0, 0]]})


@pytest.mark.parametrize("call", [
    lambda q: q.encode({}), lambda q: q.decode({}), lambda q: q.standardize({}), lambda q: q.codebooks,
    lambda q: q.shared_quantizer, lambda q: q.specific_quantizers, lambda q: q.save_pretrained("never"),
], ids=["encode", "decode", "standardize", "codebooks", "shared", "specific", "save_pretrained"])  # fmt: skip
def test_before_fit_everything_says_so(call):
    with pytest.raises(NotFittedError, match="This SharedSpecificRQVAE instance is not fitted yet"):
        call(SharedSpecificRQVAE())
