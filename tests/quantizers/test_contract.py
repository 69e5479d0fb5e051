"""What holds for every quantizer, whatever its algorithm: one view or several, k-means or a network.

A new quantizer is one entry of `MAKERS`.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from threadpoolctl import threadpool_limits

from semid.errors import FormatError, InvalidTypeError, InvalidValueError
from semid.io.persistence import read_folder, write_folder
from semid.quantizers import (
    RQVAE,
    KMeans,
    ProductKMeans,
    Recipe,
    ResidualKMeans,
    SharedSpecificKMeans,
    SharedSpecificRQVAE,
    Training,
)

# The contract holds for any training, however short.
RECIPE = Recipe(training=Training(epochs=6, warmup_epochs=10, batch_size=64, learning_rate=5e-3))
N_ITEMS, DIM, CODEBOOK_SIZE = 600, 12, 8
TRAINING = Training(epochs=5, warmup_epochs=5, batch_size=64, learning_rate=3e-3, device="cpu")
MAKERS = {
    "KMeans": lambda **params: KMeans(CODEBOOK_SIZE, **params),
    "KMeans, balanced": lambda **params: KMeans(CODEBOOK_SIZE, capacity=90, **params),
    "ResidualKMeans": lambda **params: ResidualKMeans(3, CODEBOOK_SIZE, **params),
    "ResidualKMeans, k-means++": lambda **params: ResidualKMeans(2, CODEBOOK_SIZE, init="k-means++", **params),
    "ResidualKMeans, random": lambda **params: ResidualKMeans(2, CODEBOOK_SIZE, init="random", **params),
    "ResidualKMeans, balanced": lambda **params: ResidualKMeans(2, CODEBOOK_SIZE, capacity=90, **params),
    "ProductKMeans": lambda **params: ProductKMeans(3, CODEBOOK_SIZE, **params),
    "ProductKMeans, opq": lambda **params: ProductKMeans(5, CODEBOOK_SIZE, rotation="opq", **params),
    "RQVAE": lambda **params: RQVAE(3, CODEBOOK_SIZE, hidden_sizes=(32,), latent_dim=5, training=TRAINING, **params),
    "SharedSpecificKMeans": lambda **params: SharedSpecificKMeans(1, 2, CODEBOOK_SIZE, **params),
    "SharedSpecificKMeans, no shared level": lambda **params: SharedSpecificKMeans(0, 2, CODEBOOK_SIZE, **params),
    "SharedSpecificKMeans, one view": lambda **params: SharedSpecificKMeans(
        1, 2, (CODEBOOK_SIZE, 6, 4), views=("semantic",), **params
    ),
    "SharedSpecificRQVAE": lambda **params: SharedSpecificRQVAE(
        1, 2, CODEBOOK_SIZE, hidden_sizes=(32,), latent_dim=5, recipe=RECIPE, **params
    ),
}


class Case:
    """A quantizer, its data as it takes them, and one interface to results of one view and of several."""

    def __init__(self, name, X):
        self.make = MAKERS[name]
        self.is_multi_view = not hasattr(self.make(), "candidates")
        self.X = self.views_of(X)
        self.fitted = self.make().fit(self.X)

    def views_of(self, X, change=lambda part: part):
        if not self.is_multi_view:
            return change(X)
        parts = {"semantic": X, "collaborative": np.ascontiguousarray(X[:, :5]) * 3 + 1}
        return {view: change(parts[view]) for view in self.make().views}

    def changed(self, change):
        return {view: change(part) for view, part in self.X.items()} if self.is_multi_view else change(self.X)

    def parts(self, result):
        return list(result.values()) if self.is_multi_view else [result]

    def distortion(self, quantizer, codes):
        decoded = self.parts(quantizer.decode(codes))
        return sum(((x - y) ** 2).sum() / x.var() for x, y in zip(self.parts(self.X), decoded, strict=True))

    def assert_same(self, left, right):
        for one, other in zip(self.parts(left), self.parts(right), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module", params=MAKERS)
def case(request, make_clustered):
    X = make_clustered(N_ITEMS, DIM)
    X.flags.writeable = False
    return Case(request.param, X)


def test_fit_returns_self(case):
    quantizer = case.make()
    assert quantizer.fit(case.X) is quantizer


def test_codes_have_their_dtype_shape_and_range(case):
    for codes in case.parts(case.fitted.encode(case.X)):
        assert codes.shape == (N_ITEMS, case.fitted.n_levels) and codes.dtype == np.uint8
        assert (codes.max(axis=0) < case.fitted.codebook_sizes).all()


def test_decoding_has_the_shape_of_the_data_and_is_nearer_than_the_mean(case):
    codes = case.fitted.encode(case.X)
    for decoded, x in zip(case.parts(case.fitted.decode(codes)), case.parts(case.X), strict=True):
        assert decoded.shape == x.shape and decoded.dtype == np.float32
        assert ((x - decoded) ** 2).sum() < ((x - x.mean(axis=0)) ** 2).sum()


def test_a_beam_is_never_worse(case):
    distortions = [case.distortion(case.fitted, case.fitted.encode(case.X, beam=beam)) for beam in (1, 8)]
    assert distortions[1] <= distortions[0] * (1 + 1e-4)


def test_saved_and_loaded_it_gives_the_same_codes(case, tmp_path):
    case.fitted.save_pretrained(tmp_path / "quantizer")
    loaded = type(case.fitted).from_pretrained(tmp_path / "quantizer")
    case.assert_same(loaded.encode(case.X, beam=2), case.fitted.encode(case.X, beam=2))
    case.assert_same(loaded.decode(loaded.encode(case.X)), case.fitted.decode(case.fitted.encode(case.X)))


@pytest.mark.parametrize("harm", ["no config", "no tensors", "truncated", "foreign", "another class"])
def test_a_folder_that_is_not_whole_is_refused(case, tmp_path, harm):
    case.fitted.save_pretrained(tmp_path / "quantizer")
    config, tensors = tmp_path / "quantizer" / "config.json", tmp_path / "quantizer" / "model.safetensors"
    if harm == "no config":
        config.unlink()
    elif harm == "no tensors":
        tensors.unlink()
    elif harm == "truncated":
        tensors.write_bytes(tensors.read_bytes()[:-9])
    elif harm == "foreign":
        config.write_text('{"model_type": "t5"}')
    else:
        config.write_text(json.dumps(json.loads(config.read_text()) | {"class": "Trie"}))
    with pytest.raises(FormatError, match=r"expected .*, got .*"):
        type(case.fitted).from_pretrained(tmp_path / "quantizer")


def with_folder(case, folder, change):
    """Save, and change config and arrays by what a function returns for them."""
    case.fitted.save_pretrained(folder)
    name = type(case.fitted).__name__
    config, arrays = change(*read_folder(folder, class_name=name))
    write_folder(folder, class_name=name, config=config, arrays=arrays, card="")
    return type(case.fitted).from_pretrained


def test_an_unknown_parameter_is_damage(case, tmp_path):
    load = with_folder(case, tmp_path, lambda config, arrays: (config | {"speed": 1}, arrays))
    with pytest.raises(
        FormatError, match=r"is damaged: .* that belong together, got TypeError: .*speed.*Save it again"
    ):
        load(tmp_path)


@pytest.mark.parametrize("harm", ["not finite", "left over", "one dimension", "another dim", "float64"])
def test_arrays_that_do_not_fit_are_damage(case, tmp_path, harm):
    def change(config, arrays):
        name = next(name for name in arrays if name.startswith(("codebook", "shared_0", "specific_0_")))
        array = np.array(arrays[name])
        if harm == "not finite":
            array[1, 1] = np.nan
        elif harm == "left over":
            return config, arrays | {"codebook_16": array}
        elif harm == "one dimension":
            array = array[:, 0]
        elif harm == "another dim":
            array = array[:, :-1]
        else:
            array = array.astype(np.float64)
        return config, arrays | {name: array}

    if harm == "another dim" and type(case.fitted) in (KMeans, ProductKMeans):
        pytest.skip("it is another quantizer, and a whole one")
    load = with_folder(case, tmp_path, change)
    with pytest.raises(FormatError, match=r"is damaged: expected .* that belong together, got .*Save it again"):
        load(tmp_path)


@pytest.mark.parametrize("change", [lambda sizes: sizes[:-1], lambda sizes: [*sizes, 8]], ids=["fewer", "more"])
def test_another_number_of_levels_is_damage(case, tmp_path, change):
    def changed(config, arrays):
        sizes = np.atleast_1d(config["codebook_size"]).tolist()
        return config | {"codebook_size": change(sizes)}, arrays

    load = with_folder(case, tmp_path, changed)
    with pytest.raises(FormatError, match=r"got ValueError: \d codebook sizes for \d levels"):
        load(tmp_path)


def test_parameters_of_numpy_are_saved(case, tmp_path):
    numbers = {
        name: np.int64(value)
        for name, value in case.make(seed=1).get_params(deep=False).items()
        if isinstance(value, int) and not isinstance(value, bool)
    }
    quantizer = case.make().set_params(**numbers)
    if "hidden_sizes" in quantizer.get_params(deep=False):
        quantizer.set_params(hidden_sizes=np.array([8]))
    quantizer.fit(case.X).save_pretrained(tmp_path)
    loaded = type(quantizer).from_pretrained(tmp_path)
    assert loaded.seed == 1 and type(loaded.seed) is int
    case.assert_same(loaded.encode(case.X), quantizer.encode(case.X))


def test_columns_of_data_frames_keep_their_names_and_order(case):
    pd = pytest.importorskip("pandas")
    frames = case.changed(lambda part: pd.DataFrame(part, columns=[f"x{column}" for column in range(part.shape[1])]))
    quantizer = case.make().fit(frames)
    case.assert_same(quantizer.encode(frames), case.fitted.encode(case.X))

    def turn(part):
        return part[list(part.columns[::-1])]

    turned = {view: turn(part) for view, part in frames.items()} if case.is_multi_view else turn(frames)
    for verb in (quantizer.encode, quantizer.partial_fit):
        with pytest.raises(
            InvalidValueError, match=r"[Ff]eature names must be in the same order|expected 'x0', got 'x\d"
        ):
            verb(turned)


def test_a_clone_fits_alike(case):
    case.assert_same(clone(case.fitted).fit(case.X).encode(case.X), case.fitted.encode(case.X))


def test_the_seed_alone_decides(case):
    first, again, other = (case.make(seed=seed).fit(case.X) for seed in (1, 1, 2))
    case.assert_same(first.decode(first.encode(case.X)), again.decode(again.encode(case.X)))
    pairs = zip(
        case.parts(first.decode(first.encode(case.X))), case.parts(other.decode(other.encode(case.X))), strict=True
    )
    assert any((one != two).any() for one, two in pairs)


def test_one_and_two_threads_give_the_same_bits(case):
    trained = hasattr(case.fitted, "history_")  # torch adds in another order on other threads
    found = []
    for n_threads in (1, 2):
        with threadpool_limits(n_threads):
            quantizer = case.fitted if trained else case.make().fit(case.X)
            found.append(quantizer.decode(quantizer.encode(case.X)))
    case.assert_same(*found)


@pytest.mark.parametrize("verb", ["fit", "encode"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_row(case, verb, value):
    def spoil(part):
        part = np.array(part)
        part[7, 1] = value
        return part

    with pytest.raises(InvalidValueError, match=r"expected finite numbers, got (nan|inf) at column 1 in row 7"):
        getattr(clone(case.fitted) if verb == "fit" else case.fitted, verb)(case.changed(spoil))


def test_another_dim_is_refused(case):
    with pytest.raises(InvalidValueError, match=r"Use the embedding model of the fit"):
        case.fitted.encode(case.changed(lambda part: part[:, :-1]))


@pytest.mark.parametrize("verb", ["fit", "encode"])
def test_no_items_are_refused(case, verb):
    with pytest.raises(InvalidValueError, match="has too few items: expected at least 1, got n_samples=0"):
        getattr(clone(case.fitted) if verb == "fit" else case.fitted, verb)(case.changed(lambda part: part[:0]))


def test_fewer_items_than_codes_are_refused_with_both_numbers(case):
    with pytest.raises(InvalidValueError, match=r"expected at least 8, its codebook_size, got n_samples=7"):
        clone(case.fitted).fit(case.changed(lambda part: part[:7]))


def test_before_fit_everything_says_so(case):
    for call in (lambda q: q.encode(case.X), lambda q: q.decode(case.X), lambda q: q.codebooks):
        with pytest.raises(NotFittedError, match="instance is not fitted yet"):
            call(case.make())


def test_codes_out_of_range_are_refused(case):
    codes = case.fitted.encode(case.X)
    if case.is_multi_view:
        codes = {view: np.full_like(part, CODEBOOK_SIZE) for view, part in codes.items()}
    else:
        codes = np.full_like(codes, CODEBOOK_SIZE)
    with pytest.raises(
        InvalidValueError, match=r"lies outside the codebook: expected 0 to 7 at level 0, got 8 in row 0"
    ):
        case.fitted.decode(codes)


def test_constant_embeddings_are_met_exactly(case):
    X = case.changed(lambda part: np.ones_like(part))
    quantizer = case.make().fit(X)
    codes = quantizer.encode(X)
    for decoded, x in zip(case.parts(quantizer.decode(codes)), case.parts(X), strict=True):
        np.testing.assert_allclose(decoded, x, atol=1e-5)


def test_copies_get_the_codes_of_the_original(case):
    X = case.changed(lambda part: np.concatenate([part[:50]] * 3))
    for codes in case.parts(case.make().fit(X).encode(X)):
        np.testing.assert_array_equal(codes[:50], codes[50:100])
        np.testing.assert_array_equal(codes[:50], codes[100:])


def test_the_dtype_and_the_source_do_not_matter(case, tmp_path):
    import torch

    def mapped(part):
        path = tmp_path / f"{part.shape[1]}.npy"
        np.save(path, part)
        return np.load(path, mmap_mode="r")

    half = case.changed(lambda part: part.astype(np.float16))
    expected = case.make().fit(half).encode(half)
    for change in (
        lambda part: part.astype(np.float32),
        lambda part: part.astype(np.float64),
        lambda part: np.asfortranarray(part.astype(np.float32)),
        lambda part: np.repeat(part, 2, axis=0)[::2],
        lambda part: torch.tensor(part),
        lambda part: mapped(part).astype(np.float32) if part is None else mapped(part),
    ):
        X = {view: change(part) for view, part in half.items()} if case.is_multi_view else change(half)
        case.assert_same(case.make().fit(X).encode(X), expected)


def halves(case):
    return [case.changed(lambda part: part[:300]), case.changed(lambda part: part[300:])]


def test_partial_fit_returns_self_and_the_same_batches_give_the_same_codebooks(case):
    codes = []
    for _ in range(2):
        quantizer = case.make()
        for batch in [*halves(case), *halves(case)]:
            assert quantizer.partial_fit(batch) is quantizer
        codes.append(quantizer.encode(case.X))
    case.assert_same(*codes)


def test_partial_fit_goes_on_after_a_fit_and_after_a_load(case, tmp_path):
    fitted = case.make().fit(case.X)
    fitted.save_pretrained(tmp_path / "quantizer")
    before = fitted.decode(fitted.encode(case.X))
    loaded = type(fitted).from_pretrained(tmp_path / "quantizer")
    batch = case.changed(lambda part: part[:400] + 0.01)
    after = [q.decode(q.encode(case.X)) for q in (fitted.partial_fit(batch), loaded.partial_fit(batch))]
    case.assert_same(*after)
    assert any((one != other).any() for one, other in zip(case.parts(before), case.parts(after[0]), strict=True))


@pytest.mark.parametrize("fault", ["nan", "dim", "empty"])
def test_a_bad_batch_leaves_the_quantizer_as_it_was(case, fault):
    def spoil(part):
        part = np.array(part)
        part[7, 1] = np.nan
        return part

    change, message = {
        "nan": (spoil, "got nan at column 1 in row 7"),
        "dim": (lambda part: part[:, :-1], "Use the embedding model of the fit"),
        "empty": (lambda part: part[:0], "has too few items: expected at least 1, got n_samples=0"),
    }[fault]
    quantizer = case.make().fit(case.X)
    with pytest.raises(InvalidValueError, match=message):
        quantizer.partial_fit(case.changed(change))
    case.assert_same(quantizer.encode(case.X), case.fitted.encode(case.X))


@pytest.mark.parametrize("verb", ["fit", "partial_fit", "encode"])
def test_the_message_names_the_bad_view(case, verb):
    X = case.changed(np.array)
    name, part = (f"view '{list(X)[-1]}'", list(X.values())[-1]) if case.is_multi_view else ("X", X)
    part[3, 0] = np.inf
    quantizer = case.make() if verb == "fit" else case.make().fit(case.X)
    with pytest.raises(InvalidValueError, match=rf"{name} contains NaN, .*, got inf at column 0 in row 3"):
        getattr(quantizer, verb)(X)


def test_auto_fits_the_number_of_items(case):
    X = case.changed(lambda part: part[:70])
    quantizer = case.make().set_params(codebook_size="auto")
    if getattr(quantizer, "capacity", None):
        quantizer.set_params(capacity=70)
    with pytest.raises(NotFittedError):
        _ = quantizer.codebook_sizes
    assert set(quantizer.fit(X).codebook_sizes) == {2}
    with pytest.raises(InvalidValueError, match="codebook_size is unknown to partial_fit: expected an integer"):
        clone(quantizer).partial_fit(X)


def test_codes_of_a_wrong_shape_or_dtype_are_refused(case):
    codes = case.fitted.encode(case.X)
    for change, error, message in (
        (lambda part: part[:, :-1], InvalidValueError, rf"expected \(n_items, {case.fitted.n_levels}\), got "),
        (lambda part: part * 0.5, InvalidTypeError, "has a wrong dtype: expected integers, got float"),
        (lambda part: part.astype(np.int64) - 99, InvalidValueError, r"lies outside the codebook: .*, got -\d+ in row"),
    ):
        wrong = {view: change(part) for view, part in codes.items()} if case.is_multi_view else change(codes)
        with pytest.raises(error, match=message):
            case.fitted.decode(wrong)


def test_what_was_passed_stays_as_it_was(case):
    writable = case.changed(lambda part: np.array(part))
    case.make().fit(writable).partial_fit(writable).encode(writable)
    case.assert_same(writable, case.X)


FIT_AND_HASH = """
import hashlib, sys
import numpy as np
sys.path[:0] = sys.argv[2:]
from quantizers.test_contract import MAKERS, Case
for name in MAKERS:
    if "RQVAE" in name:  # torch rounds differently on one thread and on two
        continue
    case = Case(name, np.load(sys.argv[1]))
    parts = case.parts(case.fitted.decode(case.fitted.encode(case.X)))
    print(name, hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


def test_processes_of_one_and_two_threads_agree(make_clustered, tmp_path):
    np.save(tmp_path / "X.npy", make_clustered(N_ITEMS, DIM))
    printed = set()
    for n_threads in ("1", "2"):
        environment = os.environ | {"OMP_NUM_THREADS": n_threads, "OPENBLAS_NUM_THREADS": n_threads}
        command = [sys.executable, "-c", FIT_AND_HASH, str(tmp_path / "X.npy"), *sys.path]
        printed.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(printed) == 1


def test_the_fingerprint_tells_what_was_learnt(case, tmp_path):
    before = case.fitted.fingerprint
    assert len(before) == 32 and case.fitted.fingerprint == before
    case.fitted.save_pretrained(tmp_path / "quantizer")
    assert type(case.fitted).from_pretrained(tmp_path / "quantizer", mmap=True).fingerprint == before
    other = clone(case.fitted).set_params(seed=case.fitted.seed + 1).fit(case.X)
    assert other.fingerprint != before
    with pytest.raises(NotFittedError):
        _ = clone(case.fitted).fingerprint
