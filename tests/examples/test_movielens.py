import sys

import numpy as np
import pytest
from gensar import movielens
from gensar.movielens import read_movielens

from semid.errors import FormatError, OptionalDependencyError


@pytest.fixture(scope="module")
def source():
    try:
        return read_movielens()
    except OptionalDependencyError as error:
        pytest.skip(str(error))


def test_all_of_movielens_100k_is_there(source):
    assert source.name == "ml-100k"
    assert (source.n_users, len(source.item_keys), len(source.events.item)) == (943, 1682, 100_000)
    assert len(np.unique(source.events.item)) == 1682
    assert all(source.item_texts)
    assert source.item_texts[0] == "Toy Story (1995). Animation, Children's, Comedy. 1990s movies"


def test_searches_ask_for_the_item(source):
    queries, items = source.events.query, source.events.item
    assert (queries >= 0).mean() > 0.999
    member = {(query, item) for query, items in enumerate(source.query_items) for item in items.tolist()}
    assert all(pair in member for pair in zip(queries.tolist(), items.tolist(), strict=True) if pair[0] >= 0)


def test_recbole_is_data_and_not_imported(source):
    assert not any(name.partition(".")[0] == "recbole" for name in sys.modules)


def test_other_bytes_are_refused(source, monkeypatch):
    monkeypatch.setitem(movielens.SHA256, "ml-100k.item", "0" * 64)
    message = r"ml-100k\.item is not the published file: expected SHA-256 0{64}, got 51d7cdf7.* recbole==1\.2\.1$"
    with pytest.raises(FormatError, match=message):
        read_movielens()
