"""SASRec's rows as a collaborative view: what they know, that held-out events leave no trace, and the cached file."""

import dataclasses

import numpy as np
import pytest
from gensar import sequential
from gensar.dataset import TEST
from gensar.sasrec import SasRecOptions
from gensar.sequential import sequential_items
from safetensors.numpy import save_file

from semid.errors import FormatError

OPTIONS = SasRecOptions(dim=16, dropout=0.1, max_items=6, learning_rate=1e-2, batch_size=16, max_epochs=15, patience=15)


@pytest.fixture
def pairs(without_queries):
    """60 users who take items 0 .. 9 in a random order, each followed by 10 + it or by 20 + it; item 30 is nobody's."""
    rng = np.random.default_rng(1)
    first = np.stack([rng.permutation(10) for _ in range(60)])
    items = np.stack([first, first + 10 * rng.integers(1, 3, first.shape)], axis=2).reshape(60, 20)
    return without_queries(items, n_items=31)


def test_items_that_follow_the_same_item_lie_near_each_other(pairs, tmp_path):
    """10 + i and 20 + i never stand in one place of a history; PPMI would have to find it by their neighbours."""
    rows = sequential_items(pairs, options=OPTIONS, seed=0, cache=tmp_path).embeddings
    assert rows.shape == (31, 16) and rows.dtype == np.float32
    near = np.argmax(rows[10:20] @ rows[20:30].T, axis=1)
    assert (near == np.arange(10)).mean() >= 0.8
    np.testing.assert_allclose(np.linalg.norm(rows[:30], axis=1), 1, atol=1e-6)
    assert (rows[30] == 0).all()


def test_it_is_trained_once_per_content_options_and_seed(pairs, tmp_path, monkeypatch):
    options = dataclasses.replace(OPTIONS, max_epochs=2)
    first = sequential_items(pairs, options=options, seed=0, cache=tmp_path)
    assert first.n_epochs == 2 and first.cpu_seconds > 0
    trained = []
    fit = sequential.fit_sasrec
    monkeypatch.setattr(sequential, "fit_sasrec", lambda *a, **k: trained.append(k["seed"]) or fit(*a, **k))
    again = sequential_items(pairs, options=options, seed=0, cache=tmp_path)
    assert not trained
    np.testing.assert_array_equal(again.embeddings, first.embeddings)
    assert again[1:] == first[1:]
    sequential_items(pairs, options=options, seed=1, cache=tmp_path)
    sequential_items(pairs, options=dataclasses.replace(options, dim=8), seed=0, cache=tmp_path)
    fewer = dataclasses.replace(pairs, histories=pairs.histories[:50])
    sequential_items(fewer, options=options, seed=0, cache=tmp_path)
    assert trained == [1, 0, 0]
    assert len(list(tmp_path.iterdir())) == 4
    for path in tmp_path.iterdir():  # and the same seed trains the same
        path.unlink()
    np.testing.assert_array_equal(
        sequential_items(pairs, options=options, seed=0, cache=tmp_path).embeddings, first.embeddings
    )


def test_test_targets_leave_no_trace(pairs, tmp_path):
    options = dataclasses.replace(OPTIONS, max_epochs=3)
    before = sequential_items(pairs, options=options, seed=0, cache=tmp_path / "a").embeddings
    changed = []
    for history in pairs.histories:
        item = history.item.copy()
        item[history.split == TEST] = 30
        changed.append(dataclasses.replace(history, item=item))
    other = dataclasses.replace(pairs, histories=tuple(changed))
    after = sequential_items(other, options=options, seed=0, cache=tmp_path / "b").embeddings
    np.testing.assert_array_equal(after, before)


def test_a_damaged_file_is_named(pairs, tmp_path):
    options = dataclasses.replace(OPTIONS, max_epochs=1)
    sequential_items(pairs, options=options, seed=0, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FormatError, match=r"cannot be read: expected what SASRec has learnt, got .*\. Delete it\."):
        sequential_items(pairs, options=options, seed=0, cache=tmp_path)
    save_file({"embeddings": np.zeros((31, 16), np.float32)}, path)
    with pytest.raises(FormatError, match=r"cannot be read: .* got 'n_epochs'\. Delete it\."):
        sequential_items(pairs, options=options, seed=0, cache=tmp_path)
    told = {"n_epochs": "1", "cpu_seconds": "1.0"}
    save_file({"embeddings": np.full((31, 16), np.nan, np.float32)}, path, metadata=told)
    with pytest.raises(FormatError, match=r"is not what was cached: expected finite numbers of shape \(31, 16\), got"):
        sequential_items(pairs, options=options, seed=0, cache=tmp_path)
