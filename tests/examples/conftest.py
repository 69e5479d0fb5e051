"""A toy catalogue for the GenSAR example: two groups of items, users who stay within one, many same-second events."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from gensar.dataset import Dataset, Events, build_histories
from gensar.identifiers import make_identifiers
from gensar.language import make_tokenizer, teach_ids
from gensar.presets import Recipe

N_ITEMS, N_USERS, N_EVENTS = 40, 12, 16

TOY_RECIPE = Recipe(
    identifier="shared-specific-kmeans", codebook_size=8, hidden_size=32, n_layers=1, n_heads=2, mlp_size=48,
    dropout=0.1, max_tokens=48, n_steps=12, tokens_per_step=256, n_warmup=2, n_validations=3,
    n_valid_users=6, num_beams=N_ITEMS, eval_batch=5,
)  # fmt: skip


def _toy_dataset() -> Dataset:
    rng = np.random.default_rng(5)
    user = np.repeat(np.arange(N_USERS), N_EVENTS)
    item = np.concatenate([rng.permutation(N_ITEMS // 2)[:N_EVENTS] + N_ITEMS // 2 * (u % 2) for u in range(N_USERS)])
    events = Events(
        user=user,
        item=item,
        query=np.where(rng.random(len(item)) < 0.7, item % 4, -1),  # some interactions come without a search
        time=np.tile(np.arange(N_EVENTS) // 3, N_USERS),  # three events a second
    )
    return Dataset(
        name="toy",
        item_keys=tuple(f"i{item}" for item in range(N_ITEMS)),
        item_titles=tuple(f"Item {item}" for item in range(N_ITEMS)),
        item_texts=tuple(f"item {item}" for item in range(N_ITEMS)),
        query_texts=("movies Action", "movies drama 1990s", "movies war", "movies noir 1940s"),
        query_items=tuple(np.arange(query, N_ITEMS, 4) for query in range(4)),
        query_note="Toy queries.",
        histories=build_histories(events, n_users=N_USERS),
    )


@pytest.fixture(scope="session")
def toy():
    """The data set: 12 users with 16 events in 6 seconds, 40 items, 4 queries."""
    return _toy_dataset()


@pytest.fixture
def without_queries(toy):
    """Return the toy data set with other items and histories, shape (n_users, n_events) each, and without queries."""

    def build(items, *, n_items):
        n_users, n_events = items.shape
        events = Events(
            user=np.repeat(np.arange(n_users), n_events), item=items.ravel(), query=np.full(items.size, -1),
            time=np.tile(np.arange(n_events), n_users),
        )  # fmt: skip
        return dataclasses.replace(
            toy,
            item_keys=tuple(map(str, range(n_items))),
            item_titles=("",) * n_items,
            item_texts=("item",) * n_items,
            query_texts=(),
            query_items=(),
            histories=build_histories(events, n_users=n_users),
        )

    return build


@pytest.fixture(scope="session")
def catalogue(toy):
    """Return a data set with so many items, to make IDs for; the rest is that of the toy data set."""
    return lambda n_items: dataclasses.replace(toy, item_keys=tuple(f"i{item}" for item in range(n_items)))


@pytest.fixture(scope="session")
def recipe():
    """Sizes that train in a second."""
    return TOY_RECIPE


@pytest.fixture(scope="session")
def identifiers(toy):
    rng = np.random.default_rng(6)
    views = {
        "semantic": rng.standard_normal((N_ITEMS, 12)).astype(np.float32),
        "collaborative": rng.standard_normal((N_ITEMS, 8)).astype(np.float32),
    }
    return make_identifiers(toy, views, recipe=TOY_RECIPE, seed=0)


@pytest.fixture
def teach(toy, identifiers):
    """Build a backbone's model for the toy catalogue; returns (model, language)."""

    def build(backbone, *, seed=0):
        torch.manual_seed(seed)
        tokenizer = make_tokenizer(toy.query_texts)
        model = backbone.build(tokenizer)
        return model, teach_ids(tokenizer, model, identifiers, toy.query_texts)

    return build


@pytest.fixture
def with_recipe(recipe):
    """Return the toy recipe with some fields changed."""
    return lambda **changes: dataclasses.replace(recipe, **changes)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder in the neutral format: 100 items of four categories, 20 users who like one of them."""
    folder = tmp_path_factory.mktemp("data") / "toydata"
    folder.mkdir()
    rng = np.random.default_rng(0)
    with (folder / "items.jsonl").open("w") as file:
        for item in range(100):
            categories = [f"Movies > {('Action', 'Drama', 'Comedy', 'War')[item % 4]}"]
            file.write(json.dumps({"item_id": item, "title": f"Film {item}", "categories": categories}) + "\n")
    with (folder / "interactions.csv").open("w") as file:
        file.write("user_id,item_id,position,timestamp\n")
        for user in range(20):
            items = rng.permutation(np.arange(user % 4, 100, 4))[:12]
            for position, item in enumerate(items):
                file.write(f"{user},{item},{position},{position // 2}\n")
    return folder


@pytest.fixture
def cached_embeddings(tmp_path_factory, monkeypatch):
    """Embed the texts of `data` once for all tests."""
    monkeypatch.setenv("SEMID_CACHE", str(tmp_path_factory.getbasetemp() / "embeddings"))
