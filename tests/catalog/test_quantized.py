"""New items by their embeddings, and drift of published ones."""

import copy
import json
import re

import numpy as np
import pytest

import semid
from semid.errors import InvalidTypeError, InvalidValueError


@pytest.fixture
def X(rng):
    return rng.standard_normal((120, 6), dtype=np.float32)


def catalogue(quantizer, X, n_items, **options):
    codes = semid.resolve(quantizer, X[:n_items], **options).codes
    sizes = [*quantizer.codebook_sizes, *([9] if options else [])]
    return semid.SemanticIds(range(n_items), codes, codebook_sizes=sizes, quantizer=quantizer)


@pytest.mark.parametrize("options", [{}, {"policy": "suffix"}], ids=["nearest", "suffix"])
def test_new_items_get_free_ids_and_published_ones_stay(X, options):
    quantizer = semid.ResidualKMeans(2, 12, seed=0).fit(X)
    sids = catalogue(quantizer, X, 90, **options)
    before = sids.taken().tobytes()
    expected = semid.resolve(quantizer, X[90:], taken=sids.taken(), **options).codes
    added = sids.add(range(90, 120), quantizer=quantizer, X=X[90:])
    np.testing.assert_array_equal(added, expected)
    np.testing.assert_array_equal(sids.codes_of(range(90, 120)), added)
    assert sids.taken()[:90].tobytes() == before and len(sids) == 120 and sids.generation == 1


def test_to_add_nothing_by_embeddings(X):
    quantizer = semid.ResidualKMeans(2, 12, seed=0).fit(X)
    sids = catalogue(quantizer, X, 90)
    assert sids.add([], quantizer=quantizer, X=X[:0]).shape == (0, 2)
    assert (len(sids), sids.generation) == (90, 0)


def test_retired_ids_are_reused_only_when_asked_for(X):
    quantizer = semid.KMeans(20, seed=0).fit(X)
    sids = catalogue(quantizer, X, 20)
    sids.remove([3])
    retired = sids.taken()[-1]
    with pytest.raises(InvalidValueError, match=r"items do not fit: expected at most 0 beside 20 taken, got 1"):
        sids.add([20], quantizer=quantizer, X=X[20:21])
    assert (len(sids), sids.generation) == (19, 1)
    np.testing.assert_array_equal(sids.add([20], quantizer=quantizer, X=X[20:21], reuse=True), [retired])
    assert sids.last_reuse == 2


def test_several_views(X):
    views = {"semantic": X, "collaborative": X[:, :4] ** 2}
    quantizer = semid.SharedSpecificKMeans(n_shared=1, n_specific=1, codebook_size=24, views=tuple(views), seed=0).fit(
        views
    )
    first, rest = ({view: rows[part] for view, rows in views.items()} for part in (slice(0, 90), slice(90, 120)))
    sids = semid.SemanticIds(range(90), semid.resolve(quantizer, first).codes, quantizer=quantizer)
    sids.remove([5, 6, 7])
    before = {view: sids.taken(view) for view in views}
    added = sids.add(range(90, 120), quantizer=quantizer, X=rest)
    for view in views:
        np.testing.assert_array_equal(sids.codes_of(range(90, 120), view), added[view])
        np.testing.assert_array_equal(sids.taken(view)[:87], before[view][:87])
        np.testing.assert_array_equal(sids.taken(view)[-3:], before[view][-3:])
    drift = sids.update_embeddings(range(90, 120), quantizer, rest, previous=rest)
    assert drift["semantic"].n_changed == 0
    assert drift["semantic"].distortion_before == drift["semantic"].distortion_after

    # An ID reused in one view alone leaves retired IDs that do not pair up any more.
    used = {tuple(row) for row in sids.taken("collaborative").tolist()}
    retired = sids.taken("semantic")[-1:]
    free = next(row for row in np.ndindex(24, 24) if row not in used and row[0] == retired[0, 0])
    sids.add([500], {"semantic": retired, "collaborative": [free]}, reuse=True)
    one = {view: rows[:1] for view, rows in views.items()}
    with pytest.raises(
        InvalidValueError, match=r"retired IDs differ among the views: .*'semantic': 2, 'collaborative': 3"
    ):
        sids.add([501], quantizer=quantizer, X=one)
    sids.add([501], quantizer=quantizer, X=one, reuse=True)
    assert len(sids) == 119


def test_drift_agrees_with_its_definition(X, rng):
    quantizer = semid.ResidualKMeans(2, 12, seed=0).fit(X)
    sids = catalogue(quantizer, X, 100)
    fingerprint = sids.fingerprint
    asked = [7, 3, *range(20, 60)]
    moved = X[asked] + 0.4 * rng.standard_normal((len(asked), 6), dtype=np.float32)
    drift = sids.update_embeddings(asked, quantizer, moved, previous=X[asked])
    published = quantizer.decode(sids.codes_of(asked))
    was, now = quantizer.encode(X[asked]), quantizer.encode(moved)
    assert drift.n_items == 42 and drift.n_changed == (was != now).any(axis=1).sum() > 0
    level_0 = int((was[:, 0] != now[:, 0]).sum())
    assert drift.n_changed_by_level == (level_0, drift.n_changed - level_0)
    for value, rows, decoded in [
        (drift.distortion_before, X[asked], published),
        (drift.distortion_after, moved, published),
        (drift.distortion_nearest, moved, quantizer.decode(now)),
    ]:
        assert value == pytest.approx(np.square(rows.astype(np.float64) - decoded).sum(axis=1).mean())
    alone = sids.update_embeddings(asked, quantizer, moved)
    assert alone.n_changed == (sids.codes_of(asked) != now).any(axis=1).sum() and np.isnan(alone.distortion_before)
    assert sids.fingerprint == fingerprint and sids.generation == 0


def test_wrong_quantizers_and_arguments(X, two_views):
    quantizer = semid.ResidualKMeans(2, 12, seed=0).fit(X)
    sids = catalogue(quantizer, X, 90)
    other = semid.ResidualKMeans(2, 10, seed=0).fit(X)
    cases = [
        (lambda: sids.add([90], quantizer=other, X=X[:1]), "expected codebook sizes (12, 12), got (10, 10)"),
        (lambda: sids.update_embeddings([1], other, X[:1]), "expected codebook sizes (12, 12), got (10, 10)"),
        (lambda: two_views.add([9], quantizer=other, X=X[:1]), "expected ('semantic', 'collaborative'), got ()"),
        (lambda: sids.add([90]), "given twice: expected either codes, or quantizer and X, got neither"),
        (lambda: sids.add([90], quantizer=quantizer), "got ['quantizer']"),
        (lambda: sids.add([90], [[0, 0]], quantizer=quantizer, X=X), "got ['codes', 'quantizer', 'X']"),
        (lambda: sids.add([90, 91], quantizer=quantizer, X=X[:1]), "item_ids have a wrong length: expected 1, got 2"),
        (lambda: sids.update_embeddings([1, 2], quantizer, X[:1]), "X and item_ids have different lengths: expected 2"),
        (
            lambda: sids.update_embeddings([1], quantizer, X[:1], previous=X[:2]),
            "previous and item_ids have different lengths: expected 1 rows, got 2",
        ),
        (lambda: sids.add([], quantizer=quantizer, X=X[:1]), "X and item_ids have different lengths: expected 0 rows"),
        (lambda: sids.update_embeddings([999], quantizer, X[:1]), "item ids are unknown"),
    ]
    types = [
        (lambda: sids.update_embeddings(3, quantizer, X[:1]), "expected a sequence of ids, got the int 3. Write [3]."),
        (
            lambda: sids.add([90], quantizer=object(), X=X[:1]),
            "expected a fitted quantizer, got object, which has no enc",
        ),
        (
            lambda: sids.update_embeddings([1], None, X[:1]),
            "quantizer has a wrong type: expected a fitted quantizer, got None",
        ),
    ]
    before = sids.fingerprint
    for calls, error in ((cases, InvalidValueError), (types, InvalidTypeError)):
        for call, message in calls:
            with pytest.raises(error, match=re.escape(message)):
                call()
    assert sids.fingerprint == before and sids.generation == 0


def test_a_quantizer_of_another_fit_is_refused(X, tmp_path):
    first, again = (semid.ResidualKMeans(2, 12, seed=seed).fit(X) for seed in (0, 1))
    sids = semid.SemanticIds(range(90), semid.resolve(first, X[:90]).codes, quantizer=first)
    assert sids.codebook_sizes == first.codebook_sizes
    message = rf"another quantizer made the codes: expected fingerprint {first.fingerprint}, got {again.fingerprint}"
    sids.save_pretrained(tmp_path / "sids")
    first.save_pretrained(tmp_path / "first")
    loaded = semid.ResidualKMeans.from_pretrained(tmp_path / "first")
    for known in (sids, sids[:80], copy.copy(sids), semid.SemanticIds.from_pretrained(tmp_path / "sids")):
        for call in (
            lambda known=known: known.add([100], quantizer=again, X=X[100:101]),
            lambda known=known: known.update_embeddings([1], again, X[1:2]),
            lambda known=known: known.check_pair(quantizer=again),
        ):
            with pytest.raises(InvalidValueError, match=message):
                call()
        known.add([100], quantizer=loaded, X=X[100:101])
        known.check_pair(quantizer=first)
        known.remove([100])
        known.check_pair(quantizer=first)
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    assert config["fingerprint"] == first.fingerprint == loaded.fingerprint


def test_a_catalogue_of_codes_alone_says_that_it_cannot_tell(X):
    quantizer = semid.ResidualKMeans(2, 12, seed=0).fit(X)
    sids = semid.SemanticIds(range(90), semid.resolve(quantizer, X[:90]).codes, codebook_sizes=(12, 12))
    with pytest.warns(UserWarning, match="does not know which quantizer made its codes: .* call set_quantizer if this"):
        sids.add([90], quantizer=quantizer, X=X[90:91])
    with pytest.raises(InvalidValueError, match="does not know which quantizer made its codes"):
        sids.check_pair(quantizer=quantizer)
    generation = sids.generation
    sids.set_quantizer(quantizer)
    assert sids.generation == generation
    sids.add([91], quantizer=quantizer, X=X[91:92])
    refitted = copy.deepcopy(quantizer).refit(X[:92], sids.codes_of(range(92)))
    with pytest.raises(
        InvalidValueError, match="after a refit or a conversion, whose codes mean the same, call set_qu"
    ):
        sids.add([92], quantizer=refitted, X=X[92:93])
    sids.set_quantizer(refitted)
    sids.add([92], quantizer=refitted, X=X[92:93])
    with pytest.raises(InvalidValueError, match=r"expected codebook sizes \(12, 12\), got \(10, 10\)"):
        sids.set_quantizer(semid.ResidualKMeans(2, 10).fit(X))


def test_a_quantizer_of_ones_own_is_known_by_its_codebooks(X):
    class Own:
        """What the protocol asks for, without a fingerprint."""

        def __init__(self, inner):
            self.inner, self.codebooks, self.codebook_sizes = inner, inner.codebooks, inner.codebook_sizes

        def __getattr__(self, name):
            if name in {"fingerprint", "inner"}:
                raise AttributeError(name)
            return getattr(self.inner, name)

    first, again = (Own(semid.ResidualKMeans(2, 12, seed=seed).fit(X)) for seed in (0, 1))
    sids = semid.SemanticIds(range(90), semid.resolve(first, X[:90]).codes, quantizer=first)
    sids.check_pair(quantizer=first)
    with pytest.raises(InvalidValueError, match="another quantizer made the codes"):
        sids.check_pair(quantizer=again)
