"""Data from RecBole's atomic files, from MovieLens-100K inside its package, and the choice between formats."""

import re
import sys

import numpy as np
import pytest
from gensar import loaders
from gensar.dataset import TEST, TRAIN, VALID, seen, targets
from gensar.loaders import load_dataset, read_atomic, read_movielens

from semid.errors import FormatError, OptionalDependencyError

ITEMS = """item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq
a\tUsual Suspects, The\t1995\tCrime Thriller
b\tToy Story\t1995\tAnimation Children's
c\tLand Before Time (1988)\tV\tAnimation
d\tunknown film\tunknown\tunknown
"""
INTERACTIONS = """user_id:token\titem_id:token\trating:float\ttimestamp:float
u2\tb\t3\t881250949
u1\ta\t1\t891717742.0
u2\td\t5\t891717743
u2\tc\t5\t891717744
"""


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, ITEMS, INTERACTIONS)


def write(folder, items, interactions):
    (folder / "small.item").write_text(items, encoding="utf-8")
    (folder / "small.inter").write_text(interactions, encoding="utf-8")
    return folder


def test_films(folder):
    source = read_atomic(folder)
    assert (source.name, source.n_users, source.item_keys) == ("small", 2, ("a", "b", "c", "d"))
    assert source.item_titles == ("The Usual Suspects", "Toy Story", "Land Before Time", "unknown film")
    assert source.item_texts == (
        "The Usual Suspects (1995). Crime, Thriller. 1990s movies",
        "Toy Story (1995). Animation, Children's. 1990s movies",
        "Land Before Time (1988). Animation. 1980s movies",
        "unknown film",
    )


def test_queries_are_the_genre_and_decade_paths(folder):
    source = read_atomic(folder)
    queries = dict(zip(source.query_texts, [items.tolist() for items in source.query_items], strict=True))
    assert queries == {
        "movies crime 1990s": [0],
        "movies thriller 1990s": [0],
        "movies crime thriller 1990s": [0],
        "movies animation 1990s": [1],
        "movies children 1990s": [1],
        "movies animation children 1990s": [1],
        "movies animation 1980s": [2],
    }
    assert source.query_note.startswith("Queries are constructed, not a search log and not user tags")


def test_interactions_keep_every_rating_and_get_one_search_each(folder):
    source = read_atomic(folder)
    events = source.events
    assert events.user.tolist() == [0, 1, 0, 0]
    assert events.item.tolist() == [1, 0, 3, 2]
    assert events.time.tolist() == [881250949, 891717742, 891717743, 891717744]
    assert events.query[2] == -1  # nothing is known of the film, so there is nothing to ask for
    for item, query in zip(events.item[[0, 1, 3]], events.query[[0, 1, 3]], strict=True):
        assert item in source.query_items[query]


def test_other_items_have_one_path_of_all_their_categories(tmp_path):
    items = "item_id:token\ttitle:token\tbrand:token\tcategories:token_seq\n1\tSerum\tOPI\t'Beauty', 'Skin Care'\n"
    source = read_atomic(write(tmp_path, items, "user_id:token\titem_id:token\ttimestamp:float\nu\t1\t1\n"))
    assert source.item_texts == ("Serum. OPI. Beauty, Skin Care",)
    assert source.query_texts == ("beauty skin care",)


@pytest.mark.parametrize(
    ("items", "interactions", "message"),
    [
        (
            ITEMS,
            INTERACTIONS + "u1\tz\t1\t5\n",
            "small.inter, line 6: expected an item of the .item file, got unknown item id 'z'. Add",
        ),
        (ITEMS, INTERACTIONS + "u1\ta\t1\tx\n", "small.inter, line 6: expected an integer timestamp, got 'x'. Correct"),
        (ITEMS, INTERACTIONS + "u1\ta\t1\n", "small.inter, line 6: expected 4 fields as in the header, got 3."),
        (
            ITEMS,
            "user_id:token\titem_id:token\n",
            "small.inter, line 1: expected a header with ['user_id', 'item_id', 'timestamp']",
        ),
        (ITEMS, INTERACTIONS.splitlines()[0], "small.inter, line 2: expected an interaction per line, got none."),
        (
            ITEMS + "a\tAgain\t1990\tWar\n",
            INTERACTIONS,
            "small.item, line 6: expected each item once, got item 'a' again.",
        ),
        (
            ITEMS + "e\t\t\tunknown\n",
            INTERACTIONS,
            "small.item, line 6: expected a title or categories for item 'e', got no text. Give",
        ),
        (ITEMS.splitlines()[0], INTERACTIONS, "small.item, line 2: expected an item per line, got none."),
    ],
    ids=["item", "time", "width", "header", "no interactions", "repeated", "no text", "no items"],
)
def test_malformed_files_name_file_and_line(tmp_path, items, interactions, message):
    with pytest.raises(FormatError, match=re.escape(message)):
        read_atomic(write(tmp_path, items, interactions))


def test_two_data_sets_in_one_folder(folder):
    (folder / "other.item").write_text(ITEMS)
    message = r"is no RecBole folder: expected one file \*\.item, got \['other\.item', 'small\.item'\]\. Put NAME"
    with pytest.raises(FormatError, match=message):
        read_atomic(folder)


@pytest.fixture(scope="module")
def movielens_source():
    try:
        return read_movielens()
    except OptionalDependencyError as error:
        pytest.skip(str(error))


def test_all_of_movielens_100k_is_there(movielens_source):
    assert movielens_source.name == "ml-100k"
    assert (movielens_source.n_users, len(movielens_source.item_keys), len(movielens_source.events.item)) == (
        943,
        1682,
        100_000,
    )
    assert len(np.unique(movielens_source.events.item)) == 1682
    assert all(movielens_source.item_texts)
    assert movielens_source.item_texts[0] == "Toy Story (1995). Animation, Children's, Comedy. 1990s movies"


def test_searches_ask_for_the_item(movielens_source):
    queries, items = movielens_source.events.query, movielens_source.events.item
    assert (queries >= 0).mean() > 0.999
    member = {(query, item) for query, items in enumerate(movielens_source.query_items) for item in items.tolist()}
    assert all(pair in member for pair in zip(queries.tolist(), items.tolist(), strict=True) if pair[0] >= 0)


def test_recbole_is_data_and_not_imported(movielens_source):
    assert not any(name.partition(".")[0] == "recbole" for name in sys.modules)


def test_other_bytes_are_refused(movielens_source, monkeypatch):
    monkeypatch.setitem(loaders.SHA256, "ml-100k.item", "0" * 64)
    message = r"ml-100k\.item is not the published file: expected SHA-256 0{64}, got 51d7cdf7.* recbole==1\.2\.1$"
    with pytest.raises(FormatError, match=message):
        read_movielens()


@pytest.fixture(scope="module")
def movielens():
    try:
        return load_dataset(None)
    except OptionalDependencyError as error:
        pytest.skip(str(error))


def test_movielens_is_split_leave_one_out(movielens):
    assert (movielens.n_users, movielens.n_items, movielens.n_queries) == (943, 1682, 420)
    for task in ("recommendation", "search"):
        for split in (VALID, TEST):
            assert targets(movielens.histories, task=task, split=split)[:, 0].tolist() == list(range(943))
    for history in movielens.histories:
        assert (np.diff(history.time) >= 0).all()
        assert history.split[-2:].tolist() == [VALID, TEST] and (history.split[:-2] == TRAIN).all()


def test_no_history_holds_the_target_or_anything_of_its_second(movielens):
    for user, event in targets(movielens.histories, task="search", split=TEST):
        history = movielens.histories[user]
        past = history.before(event)
        assert history.item[event] not in history.item[past]
        assert (history.time[past] < history.time[event]).all()
        assert history.item[event] not in seen(history, event)


@pytest.mark.parametrize("name", ["amazon_beauty_small", "ml_latest_small", "amazon_industrial"])
def test_neutral_sets(data_folder, name):
    dataset = load_dataset(data_folder / name)
    assert dataset.name == name and all(dataset.item_texts)
    assert len(targets(dataset.histories, task="recommendation", split=TEST)) == dataset.n_users
    for history in dataset.histories:
        assert (np.diff(history.split) >= 0).all() and history.split[-1] == TEST


def test_loading_twice_gives_the_same_order(movielens):
    again = load_dataset(None)
    assert all(
        (first.item == second.item).all() and (first.query == second.query).all()
        for first, second in zip(movielens.histories, again.histories, strict=True)
    )


def test_atomic_files_in_a_folder(tmp_path):
    (tmp_path / "few.item").write_text("item_id:token\ttitle:token\n1\tone\n")
    (tmp_path / "few.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n5\t1\t1\n")
    dataset = load_dataset(str(tmp_path))
    assert (dataset.name, dataset.n_users, dataset.n_items, dataset.n_queries) == ("few", 1, 1, 0)


def test_a_missing_folder(tmp_path):
    message = f"no data folder: expected a folder, got {str(tmp_path / 'none')!r}. Pass an existing folder, or leave"
    with pytest.raises(FormatError, match=re.escape(message)):
        load_dataset(tmp_path / "none")


def test_a_folder_without_data(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    message = (
        r"expected items\.jsonl\[\.gz\] and interactions\.csv\[\.gz\], or NAME\.inter .* got \['notes\.txt'\]\. Check"
    )
    with pytest.raises(FormatError, match=message):
        load_dataset(tmp_path)
