"""What an embedding finds by itself, against a plain computation; and on real data, that the bi-encoder serves both."""

import numpy as np
import pytest
from gensar.baselines import known_items, popularity
from gensar.dataset import TEST
from gensar.lab import retrieval
from gensar.lab.biencoder import fit_biencoder
from gensar.lab.retrieval import find_alone, main
from gensar.loaders import load_dataset
from gensar.views import collaborative_embeddings, embed_texts


def test_agrees_with_a_plain_computation(toy, rng):
    items, queries = rng.standard_normal((toy.n_items, 5)), rng.standard_normal((toy.n_queries, 5))
    popular = popularity(known_items(toy, split=TEST), n_items=toy.n_items)
    found = find_alone(toy, items, queries)
    gains = {"recommendation": [], "search": []}
    for history in toy.histories:
        for task, split in (("recommendation", history.split), ("search", history.search_split)):
            for event in np.flatnonzero(split == TEST):
                if task == "search":
                    wish = queries[history.query[event]]
                else:
                    earlier = [i for i, t in zip(history.item, history.time, strict=True) if t < history.time[event]]
                    wish = sum(0.8**age * items[item] for age, item in enumerate(reversed(earlier)))
                allowed = set(range(toy.n_items)) - (set(history.item[:event].tolist()) - {int(history.item[event])})
                order = sorted(allowed, key=lambda item: (-float(items[item] @ wish), -popular[item]))
                place = order.index(int(history.item[event]))
                gains[task].append(1 / np.log2(place + 2) if place < 10 else 0.0)
    for task, expected in gains.items():
        assert found[task]["NDCG@10"] == pytest.approx(np.mean(expected))


def test_without_queries_search_is_left_out(toy, rng):
    assert list(find_alone(toy, rng.standard_normal((toy.n_items, 3)))) == ["recommendation"]


def test_the_program_prints_each_space_and_its_ids(data, cached_embeddings, monkeypatch, capsys):
    monkeypatch.setattr(retrieval, "fit_biencoder", quick)
    assert main(["--data", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 15
    assert [line.split("  ")[0] for line in lines[1::2]] == [
        "MiniLM", "PPMI", "SASRec's rows", "MiniLM and PPMI", "MiniLM, PPMI and SASRec's rows",
        "bi-encoder on the texts alone", "bi-encoder",
    ]  # fmt: skip
    assert all(line.startswith("  its IDs, ") for line in lines[2::2])


def quick(histories, texts, collaborative, queries, *, seed):
    from gensar.lab.biencoder import BiEncoderOptions

    return fit_biencoder(
        histories, texts, collaborative, queries, seed=seed, options=BiEncoderOptions(n_epochs=1, batch_size=32)
    )


def test_bad_data_are_an_error(capsys):
    assert main(["--data", "/nowhere/at/all"]) == 1
    assert "no data folder: expected a folder" in capsys.readouterr().err


def test_the_bi_encoder_serves_both_tasks_on_real_data(data_folder):
    """Search far above the sentence model, recommendation as good as the collaborative view; see the results page."""
    dataset = load_dataset(data_folder / "amazon_beauty_small")
    texts, queries = embed_texts(dataset.item_texts), embed_texts(dataset.query_texts)
    collaborative = collaborative_embeddings(dataset.histories, n_items=dataset.n_items)
    joint = fit_biencoder(dataset.histories, texts, collaborative, queries, seed=0)
    fused = find_alone(dataset, joint.items, joint.queries)
    assert fused["search"]["NDCG@10"] > 1.3 * find_alone(dataset, texts, queries)["search"]["NDCG@10"]
    alone = find_alone(dataset, collaborative)["recommendation"]["NDCG@10"]
    assert fused["recommendation"]["NDCG@10"] > 0.9 * alone
