import gzip
import re

import pytest
from gensar.lines import find_file, integer, read_jsonl, read_table

from semid.errors import FormatError


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="file.csv"):
        path = tmp_path / name
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write_file


def table(path):
    return list(read_table(path, delimiter=",", required=("a",)))


@pytest.mark.parametrize("name", ["file.csv", "file.csv.gz"])
def test_rows_come_with_line_and_field_names(write, name):
    path = write('a:token,b\n1,2\n\n"x,y",é\n', name)
    assert table(path) == [(2, {"a": "1", "b": "2"}), (4, {"a": "x,y", "b": "é"})]


def test_a_byte_order_mark_is_no_part_of_the_header(write):
    assert table(write(b"\xef\xbb\xbfa,b\n1,2\n")) == [(2, {"a": "1", "b": "2"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n1,2,3\n", r"file\.csv, line 3: expected 2 fields as in the header, got 3\. Correct the line\."),
        ("b,c\n1,2\n", r"line 1: expected a header with \['a'\], got \['b', 'c'\]\."),
        ("", r"line 1: expected a header, got an empty file\. Write the file again\."),
        (b"a,b\n\xff,2\n", r"file\.csv cannot be read: expected UTF-8 text, plain or gzip by its name, got 'utf-8'"),
    ],
    ids=["width", "header", "empty", "encoding"],
)
def test_malformed_tables_name_file_and_line(write, text, message):
    with pytest.raises(FormatError, match=message):
        table(write(text))


def test_a_file_that_only_pretends_to_be_gzip(tmp_path):
    path = tmp_path / "file.csv.gz"
    path.write_text("a,b\n")
    with pytest.raises(FormatError, match=r"cannot be read: .* got Not a gzipped file"):
        table(path)


def test_a_cut_gzip_file(tmp_path):
    path = tmp_path / "file.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 100)[:-9])
    with pytest.raises(FormatError, match=r"cannot be read: .* got Compressed file ended"):
        table(path)


def test_json_lines(write):
    path = write('{"a": 1}\n\n{"a": [2], "b": 3}\n')
    assert list(read_jsonl(path, fields=("a",))) == [(1, {"a": 1}), (3, {"a": [2], "b": 3})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": \n', r"line 2: expected a JSON object, got '\{\"a\":' \(Expecting value"),
        ("[1]\n", r"line 1: expected a JSON object, got list\."),
        ('{"b": 1}\n', r"line 1: expected the fields \['a'\], got none named \['a'\]\."),
    ],
    ids=["syntax", "list", "field"],
)
def test_malformed_json_names_file_and_line(write, text, message):
    with pytest.raises(FormatError, match=message):
        list(read_jsonl(write(text, "file.jsonl"), fields=("a",)))


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("-3", -3), ("881250949.0", 881250949), (" 7 ", 7)])
def test_integers(tmp_path, text, number):
    assert integer(text, path=tmp_path, line=1, field="time") == number


@pytest.mark.parametrize("text", ["", "x", "1.5", "1e3", "nan", "inf"])
def test_not_an_integer(tmp_path, text):
    message = re.escape(f"line 5: expected an integer time, got {text!r}. Correct the line.")
    with pytest.raises(FormatError, match=message):
        integer(text, path=tmp_path / "f", line=5, field="time")


def test_find_file_takes_plain_before_gzip(write, tmp_path):
    assert find_file(tmp_path, "x.csv") is None
    packed = write("", "x.csv.gz")
    assert find_file(tmp_path, "x.csv") == packed
    plain = write("", "x.csv")
    assert find_file(tmp_path, "x.csv") == plain
