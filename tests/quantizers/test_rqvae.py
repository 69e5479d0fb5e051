"""RQVAE through its public verbs, on networks that train in a second."""

import contextlib
import json
import pickle
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import all_codes_oracle, perceptron_oracle, residual_encode_oracle
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import semid
from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.quantizers import RQVAE, CodeLearning, Training

QUICK = Training(epochs=6, warmup_epochs=4, batch_size=128, learning_rate=3e-3, device="cpu", precision="float32")
SMALL = {"hidden_sizes": (24,), "latent_dim": 6, "training": QUICK}


@pytest.fixture(scope="module")
def fitted(X):
    return RQVAE(3, (16, 8, 8), **SMALL).fit(X)


def variance(X):
    return ((X - X.mean(axis=0)) ** 2).sum() / len(X)


def distortion(quantizer, X, **kwargs):
    return ((X - quantizer.decode(quantizer.encode(X, **kwargs))) ** 2).sum() / len(X)


def latents_of(quantizer, X):
    """Encode with the layers in float64."""
    x = (X.astype(np.float64) - quantizer.scaling_.mean) * quantizer.scaling_.factor
    return perceptron_oracle(x, [(layer.weight.T, layer.bias) for layer in quantizer.encoder_])


def test_codes_are_the_nearest_of_each_level_in_the_latent_space(X, fitted):
    codes = fitted.encode(X[:300])
    assert codes.dtype == np.uint8 and codes.shape == (300, 3)
    expected = residual_encode_oracle(latents_of(fitted, X[:300]), fitted.codebooks)
    assert (codes == expected).all(axis=1).mean() > 0.99


def test_candidates_cost_squared_latent_distance(X, fitted):
    codes, cost = fitted.candidates(X[:40], count=5, beam=16 * 8)
    rows, expected = all_codes_oracle(latents_of(fitted, X[:40]), fitted.codebooks)
    np.testing.assert_allclose(cost, np.sort(expected, axis=1)[:, :5], rtol=1e-3, atol=1e-4)
    assert (codes[:, 0] == rows[expected.argmin(axis=1)]).all(axis=1).mean() > 0.95


def test_decoding_applies_the_decoder_to_the_sum_of_the_centroids(X, fitted):
    codes = fitted.encode(X[:50])
    total = sum(book[codes[:, level]] for level, book in enumerate(fitted.codebooks))
    expected = perceptron_oracle(total, [(layer.weight.T, layer.bias) for layer in fitted.decoder_])
    expected = expected / fitted.scaling_.factor + fitted.scaling_.mean
    np.testing.assert_allclose(fitted.decode(codes), expected, atol=1e-5)


def test_it_learns(X, fitted):
    assert distortion(fitted, X) < 0.65 * variance(X)
    history = fitted.history_
    assert [record["epoch"] for record in history] == list(range(1, 11))
    assert all("validation_distortion" not in record for record in history[:4])
    best = min(record["validation_distortion"] for record in history[4:])
    assert best < 0.7 and best == pytest.approx(distortion(fitted, X) / variance(X), rel=0.1)


@pytest.mark.parametrize("warmup_epochs", [0, 3])
def test_nearly_all_codes_are_used_after_five_epochs(make_clustered, warmup_epochs):
    X = make_clustered(4000, 32)
    training = Training(epochs=5, warmup_epochs=warmup_epochs, batch_size=128, learning_rate=3e-3, device="cpu")
    codes = RQVAE(3, 64, hidden_sizes=(48,), latent_dim=16, training=training).fit(X).encode(X)
    assert all(len(np.unique(column)) >= 0.95 * 64 for column in codes.T)


@pytest.mark.parametrize(
    "learning",
    [
        CodeLearning(update="loss", gradient="straight-through"),
        CodeLearning(update="loss", revive_dead=False),
        CodeLearning(distance="cosine"),
        CodeLearning(sinkhorn_levels=(0, -1), sinkhorn_epsilon=0.05),
    ],
    ids=["loss, straight-through", "loss, no revival", "cosine", "sinkhorn"],
)
def test_other_ways_of_learning_learn_too(X, learning):
    quantizer = RQVAE(2, 16, **SMALL, learning=learning).fit(X)
    assert distortion(quantizer, X) < 0.85 * variance(X)
    assert ("n_revived" in quantizer.history_[-1]) == learning.revive_dead


def test_cosine_encodes_latents_of_one_length(X):
    quantizer = RQVAE(1, 16, **SMALL, learning=CodeLearning(distance="cosine")).fit(X)
    latents = latents_of(quantizer, X[:100])
    latents *= np.sqrt(6) / np.linalg.norm(latents, axis=1, keepdims=True)
    expected = residual_encode_oracle(latents, quantizer.codebooks)
    assert (quantizer.encode(X[:100]) == expected).mean() > 0.98


def test_low_precision_learns(X):
    from dataclasses import replace

    quantizer = RQVAE(2, 16, **SMALL | {"training": replace(QUICK, precision="bfloat16")}).fit(X)
    assert distortion(quantizer, X) < 0.85 * variance(X)


def test_a_beam_finds_nearer_latents(X, fitted):
    greedy, wide = (fitted.candidates(X, count=1, beam=beam)[1].sum() for beam in (1, 8))
    assert wide < greedy


def test_the_seed_alone_decides(X):
    first, again, other = (RQVAE(2, 8, **SMALL, seed=seed).fit(X) for seed in (1, 1, 2))
    for left, right in zip(first.codebooks, again.codebooks, strict=True):
        np.testing.assert_array_equal(left, right)
    assert first.history_ == again.history_
    assert (first.codebooks[0] != other.codebooks[0]).any()


def test_files_tensors_and_arrays_give_the_same(X, fitted, tmp_path):
    import torch

    np.save(tmp_path / "X.npy", X)
    for source in (tmp_path / "X.npy", torch.tensor(X), X.astype(np.float64)):
        np.testing.assert_array_equal(fitted.encode(source), fitted.encode(X))
    again = clone(fitted).fit(tmp_path / "X.npy")
    np.testing.assert_array_equal(again.codebooks[0], fitted.codebooks[0])


def test_a_clone_has_the_same_parameters(fitted):
    assert clone(fitted).get_params() == fitted.get_params()


def test_resolved_ids_are_unique(X, fitted):
    resolution = semid.resolve(fitted, X[:900])
    assert len(np.unique(resolution.codes, axis=0)) == 900
    assert resolution.distortion_after < 1.3 * resolution.distortion_before


def test_saved_and_loaded_it_is_the_same(X, fitted, tmp_path):
    fitted.save_pretrained(tmp_path)
    for mmap in (False, True):
        loaded = RQVAE.from_pretrained(tmp_path, mmap=mmap)
        np.testing.assert_array_equal(loaded.encode(X, beam=2), fitted.encode(X, beam=2))
        np.testing.assert_array_equal(loaded.decode(loaded.encode(X)), fitted.decode(fitted.encode(X)))
        assert loaded.training == QUICK and loaded.learning is None and loaded.history_ == fitted.history_
        assert loaded.get_params() == fitted.get_params() | {"codebook_size": [16, 8, 8]}
    assert "embeddings of 32 dimensions to 3 codes" in (tmp_path / "README.md").read_text()


def test_ways_of_learning_are_saved(X, tmp_path):
    learning = CodeLearning(distance="cosine", sinkhorn_levels=(-1,))
    quantizer = RQVAE(1, 8, **SMALL, learning=learning).fit(X)
    quantizer.save_pretrained(tmp_path)
    loaded = RQVAE.from_pretrained(tmp_path)
    assert loaded.learning == learning
    np.testing.assert_array_equal(loaded.encode(X), quantizer.encode(X))


def test_loading_and_encoding_need_no_torch(X, fitted, tmp_path):
    fitted.save_pretrained(tmp_path / "quantizer")
    np.save(tmp_path / "X.npy", X[:20])
    code = (
        "import sys, semid; q = semid.RQVAE.from_pretrained(sys.argv[1]); q.decode(q.encode(sys.argv[2])); "
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "quantizer"), str(tmp_path / "X.npy")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize(
    "change, got",
    [
        ({"codebook_size": [16, 8, 9]}, r"codebook_2 of shape \(8, 6\), not \(9, 6\)"),
        ({"hidden_sizes": [25]}, r"encoder_0_weight of shape \(32, 24\), not \(32, 25\)"),
        ({"hidden_sizes": [24, 7]}, r"encoder_1_weight of shape"),
        ({"training": {"epochs": 0}}, "epochs is too small"),
        ({"learning": {"speed": 1}}, "unexpected keyword argument"),
    ],
)
def test_a_folder_whose_parts_do_not_fit_is_refused(fitted, tmp_path, change, got):
    fitted.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("checksum")  # as if whoever made it had no need of one
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(FormatError, match=rf"is damaged: expected parameters and arrays .*{got}.*Save it ag"):
        RQVAE.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "params, text",
    [
        (
            {"n_levels": 2},
            "n_levels is not that of the fit: expected 3, got 2. Set it back with set_params, or call fit.",
        ),
        ({"hidden_sizes": (8,)}, "hidden_sizes is not that of the fit: expected (24,), got (8,)."),
        ({"latent_dim": 4}, "latent_dim is not that of the fit: expected 6, got 4."),
        (
            {"learning": CodeLearning(distance="cosine")},
            "learning.distance is not that of the fit: expected 'euclidean'",
        ),
    ],
)
def test_parameters_that_shape_what_was_learnt_cannot_change(X, fitted, tmp_path, params, text):
    codes = fitted.encode(X)
    changed = pickle.loads(pickle.dumps(fitted)).set_params(**params)
    calls = [changed.encode, changed.partial_fit, lambda _: changed.decode(codes)]
    for call in (*calls, lambda _: changed.save_pretrained(tmp_path / "never")):
        with pytest.raises(InvalidValueError, match=re.escape(text)):
            call(X)
    assert not (tmp_path / "never").exists()


def test_a_checkpoint_that_is_no_path_is_refused(X, fitted):
    with pytest.raises(
        InvalidTypeError, match=r"checkpoint has a wrong type: expected the path of a file, got 3\. Pass"
    ):
        clone(fitted).fit(X, checkpoint=3)


def test_settings_of_numpy_and_torch_are_saved(X, tmp_path):
    import torch

    training = Training(epochs=np.int64(1), warmup_epochs=0, batch_size=500, device=torch.device("cpu"))
    RQVAE(1, 8, **SMALL | {"training": training}).fit(X, checkpoint=tmp_path / "c").save_pretrained(tmp_path / "q")
    assert RQVAE.from_pretrained(tmp_path / "q").training == training


def test_it_is_a_transformer_as_the_others_are(X, fitted):
    codes = fitted.encode(X)
    np.testing.assert_array_equal(fitted.transform(X), codes)
    np.testing.assert_array_equal(clone(fitted).fit_transform(X), codes)
    np.testing.assert_array_equal(fitted.inverse_transform(codes), fitted.decode(codes))
    assert fitted.get_feature_names_out().tolist() == ["rqvae0", "rqvae1", "rqvae2"]


def test_pickled_it_is_the_same(X, fitted):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).encode(X), fitted.encode(X))


def test_interrupted_it_stays_as_it_was_and_continues_from_its_checkpoint(X, fitted, tmp_path, monkeypatch):
    import semid.quantizers.networks.fitting as module

    path, calls, measure = tmp_path / "fit.safetensors", [], module.relative_distortion

    def interrupt(*args):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*args)

    unfitted, before = clone(fitted), fitted.encode(X)
    monkeypatch.setattr(module, "relative_distortion", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unfitted.fit(X, checkpoint=path)
    with pytest.raises(NotFittedError):
        unfitted.encode(X)
    calls[:] = [None, None]
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X)
    np.testing.assert_array_equal(fitted.encode(X), before)
    continued = unfitted.fit(X, checkpoint=path)
    np.testing.assert_array_equal(continued.encode(X), before)
    assert continued.history_ == fitted.history_


def test_a_checkpoint_of_other_items_is_refused(X, fitted, tmp_path):
    quantizer = clone(fitted).set_params(training=Training(epochs=1, warmup_epochs=0, device="cpu"))
    quantizer.fit(X, checkpoint=tmp_path / "fit")
    with pytest.raises(
        FormatError, match=r"belongs to another fit: expected items=\[1999, 32, \d+\], got \[2000, 32, "
    ):
        quantizer.fit(X[1:], checkpoint=tmp_path / "fit")
    with pytest.raises(FormatError, match=r"expected latent_dim=7, got 6"):
        clone(quantizer).set_params(latent_dim=7).fit(X, checkpoint=tmp_path / "fit")


def test_partial_fit_learns_from_batches(X):
    quantizer = RQVAE(2, 16, **SMALL).partial_fit(X[:500])
    first = distortion(quantizer, X)
    for _ in range(4):
        for begin in range(0, 2000, 500):
            assert quantizer.partial_fit(X[begin : begin + 500]) is quantizer
    assert distortion(quantizer, X) < 0.95 * first
    assert quantizer.history_ == []


def test_partial_fit_goes_on_from_a_fit_and_from_a_folder(X, fitted, tmp_path):
    fitted.save_pretrained(tmp_path)
    for quantizer in (pickle.loads(pickle.dumps(fitted)), RQVAE.from_pretrained(tmp_path, mmap=True)):
        quantizer.partial_fit(X)
        assert distortion(quantizer, X) < 1.1 * distortion(fitted, X)
        assert (quantizer.codebooks[0] != fitted.codebooks[0]).any()
        assert quantizer.history_ == fitted.history_


def test_partial_fit_refuses_a_small_first_batch_and_another_dim(X, fitted):
    with pytest.raises(InvalidValueError, match=r"expected at least 16, its codebook_size, got n_samples=15"):
        RQVAE(2, 16, **SMALL).partial_fit(X[:15])
    with pytest.raises(InvalidValueError, match="X has another dim: expected 32, got 5"):
        pickle.loads(pickle.dumps(fitted)).partial_fit(X[:, :5])


def test_constant_embeddings_are_met_exactly():
    X = np.full((20, 6), 3.0, np.float32)
    quantizer = RQVAE(2, 4, **SMALL).fit(X)
    np.testing.assert_allclose(quantizer.decode(quantizer.encode(X)), X, atol=1e-3)


def test_as_many_items_as_codes(rng):
    X = rng.normal(size=(16, 6)).astype(np.float32)
    assert RQVAE(1, 16, **SMALL).fit(X).encode(X).shape == (16, 1)


@pytest.mark.parametrize(
    "params, error, text",
    [
        ({"n_levels": 0}, InvalidValueError, "n_levels is too small: expected 1 or more, got 0."),
        ({"codebook_size": 3000}, InvalidValueError, "expected at least 3000, its codebook_size, got n_samples=2000"),
        ({"hidden_sizes": (8, 0)}, InvalidValueError, "hidden_sizes[1] is too small: expected 1 or more, got 0."),
        ({"hidden_sizes": 8}, InvalidTypeError, "hidden_sizes has a wrong type: expected a sequence of integers, got"),
        ({"latent_dim": 0}, InvalidValueError, "latent_dim is too small: expected 1 or more, got 0."),
        ({"learning": "ema"}, InvalidTypeError, "learning has a wrong type: expected CodeLearning or None, got str."),
        ({"training": {}}, InvalidTypeError, "training has a wrong type: expected Training or None, got dict."),
        ({"learning": CodeLearning(sinkhorn_levels=(3,))}, InvalidValueError, "expected -3 to 2, got 3."),
        ({"training": Training(device="abacus")}, InvalidValueError, "device cannot be used: expected 'auto', 'cpu'"),
        ({"seed": -1}, InvalidValueError, "seed is too small: expected 0 or more, got -1."),
        ({"seed": 2**70}, InvalidValueError, f"seed is too large: expected at most {2**64 - 1}, got {2**70}."),
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused_by_fit(X, params, error, text):
    with pytest.raises(error, match=re.escape(text)):
        RQVAE(**SMALL | {"codebook_size": 8} | params).fit(X)


@pytest.mark.parametrize("call", [
    lambda q: q.encode(np.eye(2)), lambda q: q.decode([[0]]), lambda q: q.candidates(np.eye(2), count=1, beam=1),
    lambda q: q.codebooks, lambda q: q.dim, lambda q: q.save_pretrained("never"),
], ids=["encode", "decode", "candidates", "codebooks", "dim", "save_pretrained"])  # fmt: skip
def test_before_fit_everything_says_so(call):
    with pytest.raises(NotFittedError, match="This RQVAE instance is not fitted yet"):
        call(RQVAE())


def test_a_row_that_is_not_finite_is_named(X, fitted):
    spoilt = X.copy()
    spoilt[7, 1] = np.nan
    for call in (clone(fitted).fit, fitted.encode, pickle.loads(pickle.dumps(fitted)).partial_fit):
        with pytest.raises(InvalidValueError, match=r"got nan at column 1 in row 7\."):
            call(spoilt)


STATES = {
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("state", [*STATES, torch.float64, torch.bfloat16], ids=str)
def test_training_does_not_depend_on_the_state_of_torch(X, state):
    """Such as that of a notebook that has just embedded items."""
    quantizer = RQVAE(2, 8, hidden_sizes=(8,), latent_dim=4, training=replace(QUICK, epochs=2, warmup_epochs=1))
    expected, streamed = clone(quantizer).fit(X).encode(X), clone(quantizer).partial_fit(X).encode(X)
    before = torch.get_default_dtype()
    try:
        if isinstance(state, torch.dtype):
            torch.set_default_dtype(state)
        with contextlib.nullcontext() if isinstance(state, torch.dtype) else STATES[state]():
            found, found_streamed = clone(quantizer).fit(X).encode(X), clone(quantizer).partial_fit(X).encode(X)
        assert torch.get_default_dtype() == (state if isinstance(state, torch.dtype) else before)
    finally:
        torch.set_default_dtype(before)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found_streamed, streamed)
