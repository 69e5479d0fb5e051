import gzip
import re

import pytest
from gensar.dataset import TEST, TRAIN, VALID
from gensar.neutral import read_neutral

from semid.errors import FormatError

FILES = {
    "items.jsonl": """{"item_id": 0, "asin": "B0", "title": "serum", "brand": "OPI", "categories": ["Beauty > Face"]}
{"item_id": 1, "asin": "B1", "title": "", "brand": "", "categories": ["Beauty > Hair Care", "Beauty > Face"]}
{"item_id": 2, "asin": "B2", "title": "comb", "categories": ["Beauty"], "description": "of wood"}
""",
    "interactions.csv": """user_id,item_id,position,timestamp,rating,split
7,0,0,10,,train
7,1,1,20,,valid
7,2,2,30,,test
8,1,0,5,,train
""",
    "queries.jsonl": """{"query_id": 0, "text": "beauty face", "kind": "category_path", "item_ids": [1, 0]}
{"query_id": 1, "text": "comb", "kind": "user_tag", "item_ids": [2]}
""",
    "searches.csv": """user_id,query_id,item_id,position,timestamp,split
7,0,0,0,10,train
7,1,2,2,30,test
""",
}


def write(folder, files):
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def changed(name, old, new):
    assert old in FILES[name]
    return {**FILES, name: FILES[name].replace(old, new)}


def test_items(tmp_path):
    source = read_neutral(write(tmp_path, FILES))
    assert (source.name, source.n_users) == (tmp_path.name, 2)
    assert source.item_keys == ("B0", "B1", "B2")
    assert source.item_titles == ("serum", "", "comb")
    assert source.item_texts == (
        "serum. OPI. Beauty > Face",
        "Beauty > Hair Care; Beauty > Face",
        "comb. Beauty. of wood",
    )


def test_events_and_searches(tmp_path):
    source = read_neutral(write(tmp_path, FILES))
    assert source.query_texts == ("beauty face", "comb")
    assert [items.tolist() for items in source.query_items] == [[0, 1], [2]]
    assert source.events.user.tolist() == [0, 0, 0, 1]
    assert source.events.query.tolist() == [0, -1, 1, -1]
    assert source.events.split.tolist() == [TRAIN, VALID, TEST, TRAIN]
    assert source.events.search_split.tolist() == [TRAIN, -1, TEST, -1]
    assert source.query_note.endswith("queries.jsonl gives their kind as: category_path, user_tag.")


def test_gzipped_files_are_the_same(tmp_path):
    for name, text in FILES.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    source = read_neutral(tmp_path)
    assert source.events.item.tolist() == [0, 1, 2, 1]


def test_without_a_split_column_leave_one_out_is_left_to_the_histories(tmp_path):
    files = {name: re.sub(r",(split|train|valid|test)\n", "\n", text) for name, text in FILES.items()}
    events = read_neutral(write(tmp_path, files)).events
    assert events.split is None and events.search_split is None


def test_without_searches_queries_are_made_from_the_categories(tmp_path):
    files = {name: FILES[name] for name in ("items.jsonl", "interactions.csv")}
    source = read_neutral(write(tmp_path, files))
    assert source.query_texts == ("beauty face", "beauty hair care")
    assert source.events.query[0] == 0 and source.events.query[2] == -1  # item 2: a path of one level
    assert source.events.search_split.tolist()[:3] == [TRAIN, VALID, -1]
    assert source.query_note.startswith("Queries are constructed, not a search log")


def test_repeated_source_ids_give_way_to_item_ids(tmp_path):
    source = read_neutral(write(tmp_path, changed("items.jsonl", '"B1"', '"B0"')))
    assert source.item_keys == ("0", "1", "2")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("items.jsonl", '"item_id": 2', '"item_id": 1', "line 3: expected each item_id once, got 1 again."),
        ("items.jsonl", '["Beauty"]', '"Beauty"', "line 3: expected categories as a list of strings, got 'Beauty'."),
        (
            "items.jsonl",
            '["Beauty > Hair Care", "Beauty > Face"]',
            "[]",
            "line 2: expected a title, brand, categories or description for item 1, got no text. Give the item a text",
        ),
        ("items.jsonl", '{"item_id": 1', '"item_id": 1', "line 2: expected a JSON object, got"),
        (
            "interactions.csv",
            "7,1,1",
            "7,9,1",
            "line 3: expected an item of the items file, got unknown item id '9'. Add the item",
        ),
        (
            "interactions.csv",
            "7,1,1,",
            "7,1,0,",
            "line 3: expected each position of a user once, got position 0 of user 7 again.",
        ),
        (
            "interactions.csv",
            "1,1,20",
            "1,1,9",
            "line 3: expected a timestamp not before that of the position before, got an earlier one.",
        ),
        (
            "interactions.csv",
            "1,20,,valid",
            "1,20,,dev",
            "line 3: expected a split of ['train', 'valid', 'test'], got 'dev'.",
        ),
        (
            "interactions.csv",
            "2,30,,test",
            "2,30,,train",
            "line 4: expected train before valid before test, got an earlier one.",
        ),
        ("interactions.csv", "7,1,1,20", "7,1,one,20", "line 3: expected an integer position, got 'one'."),
        ("queries.jsonl", '"query_id": 1', '"query_id": 0', "line 2: expected each query_id once, got 0 again."),
        ("queries.jsonl", '"comb"', '" "', "line 2: expected a text for query 1, got ' '."),
        ("queries.jsonl", "[2]", "[]", "line 2: expected item_ids as a list of item ids, got []."),
        ("queries.jsonl", "[2]", "[3]", "line 2: expected an item of the items file, got unknown item id '3'."),
        ("searches.csv", "7,1,2,2", "7,5,2,2", "line 3: expected a query of queries.jsonl, got unknown query id '5'."),
        ("searches.csv", "7,1,2,2", "7,1,8,2", "line 3: expected an item of the items file, got unknown item id '8'."),
        (
            "searches.csv",
            "7,1,2,2",
            "7,1,2,3",
            "line 3: expected an interaction of interactions.csv, got user 7, position 3.",
        ),
        ("searches.csv", "7,1,2,2", "7,1,1,2", "line 3: expected the item of line 4 of interactions.csv, got item 1."),
        (
            "searches.csv",
            "7,1,2,2",
            "7,0,2,2",
            "line 3: expected an item that query 0 lists in queries.jsonl, got item 2.",
        ),
        ("searches.csv", "7,1,2,2", "7,0,0,0", "line 3: expected one search per interaction, got another of line 2."),
        ("searches.csv", "10,train", "10,test", "line 3: expected train before valid before test"),
        (
            "searches.csv",
            ",split",
            ",part",
            "line 1: expected a split column in both this file and interactions.csv, or in neither, got it in one",
        ),
    ],
)
def test_malformed_lines_name_file_and_line(tmp_path, name, old, new, message):
    files = changed(name, old, new)
    if new == "10,test":
        files["searches.csv"] = files["searches.csv"].replace("30,test", "30,train")
    with pytest.raises(FormatError, match=re.escape(f"{name}, {message}")):
        read_neutral(write(tmp_path, files))


@pytest.mark.parametrize("name", ["items.jsonl", "interactions.csv"])
def test_files_without_rows(tmp_path, name):
    header = "" if name == "items.jsonl" else FILES[name].splitlines()[0]
    with pytest.raises(FormatError, match=rf"{name}, line \d: expected an? (item|interaction) per line, got none\."):
        read_neutral(write(tmp_path, {**FILES, name: header}))


@pytest.mark.parametrize("name", ["interactions.csv", "queries.jsonl", "searches.csv"])
def test_a_missing_file_is_named(tmp_path, name):
    files = {other: text for other, text in FILES.items() if other != name}
    with pytest.raises(FormatError, match=rf"is incomplete: expected {name} or {name}\.gz, got \['i.*\. Add it; items"):
        read_neutral(write(tmp_path, files))
