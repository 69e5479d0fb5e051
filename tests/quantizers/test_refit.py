import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers.refit import CodeSums

VIEWS = ("semantic", "collaborative")


def squares(X, codes, quantizer):
    return float(np.square(X - quantizer.decode(codes), dtype=np.float64).sum())


def least_squares(X, codes, sizes):
    """Return the least sum of squared distances over all codebooks."""
    design = np.concatenate([np.eye(size)[codes[:, level]] for level, size in enumerate(sizes)], axis=1)
    best, *_ = np.linalg.lstsq(design, X.astype(np.float64), rcond=None)
    return float(np.square(X - design @ best).sum())


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
)
def test_sums_in_blocks_give_the_least_squares(seed, sizes, lengths):
    rng = np.random.default_rng(seed)
    n_items = sum(lengths)
    X = rng.standard_normal((n_items, 3)).astype(np.float32)
    codes = np.stack([rng.integers(0, size, n_items) for size in sizes], axis=1).astype(np.uint8)
    sums = CodeSums(sizes, 3)
    for begin, end in zip(np.cumsum([0, *lengths[:-1]]), np.cumsum(lengths), strict=True):
        sums.add(X[begin:end], codes[begin:end])
    books = sums.least_squares([rng.standard_normal((size, 3)).astype(np.float32) for size in sizes])
    decoded = sum(book[codes[:, level]] for level, book in enumerate(books))
    assert np.square(X - decoded).sum() == pytest.approx(least_squares(X, codes, sizes), rel=1e-3, abs=1e-3)
    for level, counts in enumerate(sums.counts):
        np.testing.assert_array_equal(counts, np.bincount(codes[:, level], minlength=sizes[level]))


MAKERS = {
    "KMeans": lambda: semid.KMeans(12),
    "ResidualKMeans": lambda: semid.ResidualKMeans(3, 8),
    "ProductKMeans": lambda: semid.ProductKMeans(3, 8),
    "ProductKMeans, opq": lambda: semid.ProductKMeans(2, 8, rotation="opq"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_codes_of_any_kind_are_served_best(name, rng):
    X = rng.normal(size=(400, 7)).astype(np.float32)
    quantizer = MAKERS[name]().fit(X)
    codes = np.stack([rng.integers(0, size - 1, 400) for size in quantizer.codebook_sizes], axis=1)
    before = [book.copy() for book in quantizer.codebooks]
    assert quantizer.refit(X, codes) is quantizer
    if isinstance(quantizer, semid.ProductKMeans):  # on columns of their own, centroids are means
        rotated = X if quantizer.rotation_ is None else X @ quantizer.rotation_
        least = 0.0
        for level, columns in enumerate(quantizer._learnt.columns):
            least += least_squares(rotated[:, columns], codes[:, level : level + 1], (8,))
    else:
        least = least_squares(X, codes, quantizer.codebook_sizes)
    assert squares(X, codes, quantizer) == pytest.approx(least, rel=1e-4)
    for old, new in zip(before, quantizer.codebooks, strict=True):
        np.testing.assert_allclose(new[-1], old[-1], atol=1e-6)  # the code that no item has
    assert [int(count[-1]) for count in quantizer.counts_] == [0] * quantizer.n_levels


def test_unique_ids_get_nearer_and_encode_follows_the_new_codebooks(make_clustered):
    X = make_clustered(3000, 16)
    quantizer = semid.ResidualKMeans(2, 64).fit(X)
    unique = semid.resolve(quantizer, X)
    assert unique.n_collisions_before > 300
    again = semid.resolve(quantizer.refit(X, unique.codes), X)
    assert again.n_collisions_after == 0
    assert again.distortion_after < 0.99 * unique.distortion_after
    assert again.distortion_before == pytest.approx(squares(X, quantizer.encode(X), quantizer) / len(X), rel=1e-5)


def test_files_streams_and_blocks_give_the_same(tmp_path, monkeypatch, rng):
    X = rng.normal(size=(900, 6)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    fitted = semid.ResidualKMeans(2, 8).fit(X)
    fitted.save_pretrained(tmp_path / "q")
    codes = rng.integers(0, 8, (900, 2))
    expected = fitted.refit(X, codes).codebooks
    monkeypatch.setattr("semid.io.batches.BLOCK_ROWS", 128)
    for source in (X, tmp_path / "X.npy", [X[:500], X[500:]], np.load(tmp_path / "X.npy", mmap_mode="r")):
        found = semid.ResidualKMeans.from_pretrained(tmp_path / "q").refit(source, codes).codebooks
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("n_shared", "n_specific"), [(1, 2), (2, 0), (0, 2)])
def test_shared_and_specific_levels_together(rng, n_shared, n_specific):
    X = {"semantic": rng.normal(size=(300, 5)), "collaborative": 3 * rng.normal(size=(300, 4)) + 1}
    quantizer = semid.SharedSpecificKMeans(n_shared, n_specific, 6).fit(X)
    shared = rng.integers(0, 6, (300, n_shared))
    codes = {view: np.concatenate([shared, rng.integers(0, 6, (300, n_specific))], axis=1) for view in VIEWS}
    standard = quantizer.standardize(X)
    quantizer.refit(X, codes)
    for view in VIEWS:
        decoded = (quantizer.decode(codes)[view] - quantizer.scaling_[view].mean) * quantizer.scaling_[view].factor
        least = least_squares(standard[view], codes[view], quantizer.codebook_sizes)
        assert np.square(standard[view] - decoded).sum() == pytest.approx(least, rel=1e-4)
    batches = [{view: x[:100] for view, x in X.items()}, {view: x[100:] for view, x in X.items()}]
    again = semid.SharedSpecificKMeans(n_shared, n_specific, 6).fit(X).refit(batches, codes)
    for view in VIEWS:
        for one, other in zip(quantizer.codebooks[view], again.codebooks[view], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_messages(rng):
    X = rng.normal(size=(60, 4)).astype(np.float32)
    quantizer = semid.ResidualKMeans(2, 8).fit(X)
    before = [book.copy() for book in quantizer.codebooks]
    codes = quantizer.encode(X)
    cases = [
        (
            X,
            codes[:-1],
            InvalidValueError,
            "codes and X disagree: expected 59 embeddings, got 60 or more. Pass one row",
        ),
        (X[:50], codes, InvalidValueError, "codes and X disagree: expected 60 embeddings, got 50. Pass one row"),
        (X, codes + 8, InvalidValueError, "codes"),
        (X, codes.astype(float), InvalidTypeError, "codes"),
        (X[:, :3], codes, InvalidValueError, "3 features"),
        (np.where(np.arange(4) == 1, np.nan, X), codes, InvalidValueError, "finite"),
    ]
    for embeddings, rows, error, message in cases:
        with pytest.raises(error, match=message):
            quantizer.refit(embeddings, rows)
    for old, new in zip(before, quantizer.codebooks, strict=True):
        np.testing.assert_array_equal(old, new)
