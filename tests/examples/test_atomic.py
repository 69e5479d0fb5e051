import re

import pytest
from gensar.atomic import read_atomic

from semid.errors import FormatError

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
