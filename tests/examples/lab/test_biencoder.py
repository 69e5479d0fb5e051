"""The bi-encoder: which pairs it learns from, its loss against a plain one, and that both tasks are learnt."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from gensar.dataset import Events, build_histories
from gensar.lab import biencoder
from gensar.lab.biencoder import (
    BiEncoder,
    BiEncoderOptions,
    Joint,
    fit_biencoder,
    fused_identifiers,
    in_batch_loss,
    item_pairs,
    search_pairs,
)
from gensar.lab.retrieval import find_alone
from gensar.lab.run import main

import semid
from semid.errors import InvalidValueError

OPTIONS = BiEncoderOptions(dim=8, hidden_size=32, dropout=0.0, batch_size=64, n_epochs=15, learning_rate=5e-3, window=2)


@pytest.fixture
def crossed(toy):
    """40 items: the text tells item // 8, which is their query; users stay within item % 4, which no text tells."""
    rng = np.random.default_rng(2)
    item = np.concatenate([rng.permutation(np.arange(user % 4, 40, 4))[:9] for user in range(60)])
    events = Events(user=np.repeat(np.arange(60), 9), item=item, query=item // 8, time=np.tile(np.arange(9), 60))
    return dataclasses.replace(
        toy,
        query_texts=tuple(f"kind {query}" for query in range(5)),
        query_items=tuple(np.arange(8 * query, 8 * query + 8) for query in range(5)),
        histories=build_histories(events, n_users=60),
    )


@pytest.fixture
def embedded(rng):
    """(texts, collaborative, queries): noisy directions of the kind; of who takes the items; queries unlike texts."""
    kinds, takers = rng.standard_normal((5, 12)), rng.standard_normal((4, 6))
    texts = kinds[np.arange(40) // 8] + 0.3 * rng.standard_normal((40, 12))
    collaborative = takers[np.arange(40) % 4] + 0.3 * rng.standard_normal((40, 6))
    queries = rng.standard_normal((5, 12))
    return tuple(part.astype(np.float32) for part in (texts, collaborative, queries))


def test_pairs_are_those_of_a_plain_scan(toy):
    searched, near = [], []
    for history in toy.histories:
        train = history.train_events().tolist()
        searched += [(history.query[e], history.item[e]) for e in train if history.query[e] >= 0]
        near += [(history.item[a], history.item[b]) for a in train for b in train if 0 < abs(a - b) <= 3]
    assert sorted(map(tuple, search_pairs(toy.histories).tolist())) == sorted(searched)
    assert sorted(map(tuple, item_pairs(toy.histories, window=3).tolist())) == sorted(near)


def test_an_item_is_no_pair_with_itself(toy):
    history = toy.histories[0]
    doubled = dataclasses.replace(history, item=np.repeat(history.item[::2], 2))
    assert len(item_pairs([doubled], window=1)) and (np.diff(item_pairs([doubled], window=2), axis=1) != 0).all()


def test_held_out_events_are_in_no_pair(toy):
    for history in toy.histories:
        held_out = set(history.item.tolist()) - set(history.item[history.train_events()].tolist())
        assert held_out
        assert not held_out & set(item_pairs([history], window=4).ravel().tolist())
        assert not held_out & set(search_pairs([history])[:, 1].tolist())


def test_the_loss_agrees_with_a_plain_one(rng):
    pairs = np.array([[0, 5], [1, 6], [0, 7], [2, 5], [3, 9]])  # two with one left side, two with one right side
    left, right = (rng.standard_normal((5, 4)) for _ in range(2))
    expected = []
    for i in range(5):
        others = [j for j in range(5) if j == i or (pairs[j] != pairs[i]).all()]
        logits = np.array([left[i] @ right[j] / 0.5 for j in others])
        expected.append(np.log(np.exp(logits).sum()) - logits[others.index(i)])
    found = in_batch_loss(*map(torch.from_numpy, (left, right, pairs)), temperature=0.5)
    assert float(found) == pytest.approx(np.mean(expected))


def test_a_query_is_an_item_that_nobody_has_taken():
    torch.manual_seed(0)
    head = BiEncoder(6, 3, OPTIONS).eval()
    text = torch.randn(4, 6)
    torch.testing.assert_close(head(text), head(text, torch.zeros(4, 3)))
    torch.testing.assert_close(head(text, torch.randn(4, 3)).norm(dim=1), torch.ones(4))


def test_both_tasks_are_learnt(crossed, embedded):
    """Texts and queries do not match before, and the texts do not tell what a user takes."""
    texts, _, queries = embedded
    joint = fit_biencoder(crossed.histories, *embedded, options=OPTIONS, seed=0)
    assert joint.items.shape == (40, 8) and joint.queries.shape == (5, 8)
    np.testing.assert_allclose(np.linalg.norm(joint.items, axis=1), 1, rtol=1e-5)
    found = find_alone(crossed, joint.items, joint.queries)
    before = find_alone(crossed, texts, queries)
    assert found["search"]["HR@10"] > 0.9 > before["search"]["HR@10"]
    assert found["recommendation"]["HR@5"] > 0.9 > before["recommendation"]["HR@5"]
    # All eight items of the query come first, whoever takes them; the user's one among them may be at any place.
    best = np.argsort(-(joint.queries @ joint.items.T), axis=1)[:, :8]
    assert np.mean(best // 8 == np.arange(5)[:, None]) > 0.9


def test_a_task_without_pairs_is_left_out(crossed, embedded):
    texts, collaborative, queries = embedded
    without = [dataclasses.replace(history, query=np.full(9, -1)) for history in crossed.histories]
    joint = fit_biencoder(without, texts, collaborative, queries[:0], options=OPTIONS, seed=0)
    assert joint.queries.shape == (0, 8)
    assert (
        find_alone(dataclasses.replace(crossed, histories=tuple(without)), joint.items)["recommendation"]["HR@5"] > 0.9
    )


def test_nothing_to_learn_from(embedded, toy):
    empty = dataclasses.replace(toy.histories[0], split=np.full_like(toy.histories[0].split, 2))
    with pytest.raises(InvalidValueError, match=r"nothing to train .*, got none\. Choose another --identifier\."):
        fit_biencoder([empty], *embedded, seed=0)


def test_a_seed_repeats_and_leaves_torchs_generator(crossed, embedded):
    options = dataclasses.replace(OPTIONS, n_epochs=1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (
        fit_biencoder(crossed.histories, *embedded, options=options, seed=seed).items for seed in (1, 1, 2)
    )
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_fused_identifier_is_that_of_the_joint_embedding(with_recipe, catalogue, monkeypatch):
    rng = np.random.default_rng(9)
    joint = Joint(rng.standard_normal((300, 6)).astype(np.float32), np.zeros((0, 6), np.float32))
    monkeypatch.setattr(biencoder, "fit_biencoder", lambda *_, seed: joint)
    monkeypatch.setattr(biencoder, "embed_texts", lambda texts: np.zeros((len(texts), 2), np.float32))
    recipe = with_recipe(identifier="fused-biencoder", codebook_size=32)
    first, again = (
        fused_identifiers(catalogue(300), {"semantic": some, "collaborative": some}, recipe=recipe, seed=0)
        for some in (np.zeros((300, 2), np.float32), np.ones((300, 3), np.float32))
    )
    assert first.n_shared == 2
    assert [book.shape[0] for book in first.codebooks["semantic"]] == [32, 32]
    for view in ("semantic", "collaborative"):
        codes = first.codes[view]
        assert codes.shape == (300, 2) and len(np.unique(codes, axis=0)) == 300
        np.testing.assert_array_equal(codes, again.codes["semantic"])
    decoded = first.quantizer.decode(first.codes["semantic"])
    centred = joint.items - joint.items.mean(axis=0)
    assert ((decoded - joint.items) ** 2).sum() < 0.5 * (centred**2).sum()


def test_the_whole_program_with_the_fused_identifier(data, cached_embeddings, tmp_path):
    arguments = [
        "--preset",
        "tiny",
        "--data",
        str(data),
        "--identifier",
        "fused-biencoder",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(arguments) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["recipe"]["identifier"] == "fused-biencoder"
    assert results["resolution"]["n_collisions_after"] == 0
    assert semid.ResidualKMeans.from_pretrained(tmp_path / "run" / "quantizer").dim == 128
