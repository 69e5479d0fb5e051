"""Catalogues as tables."""

import sys
import types

import numpy as np
import pytest

import semid
from semid.errors import FormatError, OptionalDependencyError


@pytest.mark.parametrize("which", ["sids", "two_views"])
def test_parquet_round_trip(which, tmp_path, request):
    pytest.importorskip("pyarrow")
    original = request.getfixturevalue(which)
    original.to_parquet(tmp_path / "ids.parquet")
    again = semid.SemanticIds.from_parquet(tmp_path / "ids.parquet")
    assert again.fingerprint == original.fingerprint and list(again) == list(original)
    assert again.codebook_sizes == original.codebook_sizes


def test_columns(sids, two_views, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    sids.to_parquet(tmp_path / "ids.parquet")
    assert parquet.read_table(tmp_path / "ids.parquet").to_pydict() == {
        "item_id": ["ring", "bell", "book"], "code_0": [1, 0, 0], "code_1": [2, 3, 2],
    }  # fmt: skip
    two_views.to_parquet(tmp_path / "ids.parquet")
    names = parquet.read_table(tmp_path / "ids.parquet").column_names
    assert names == [
        "item_id", "semantic_code_0", "semantic_code_1", *(f"collaborative_code_{level}" for level in range(3))
    ]  # fmt: skip


def test_more_items_than_a_block(tmp_path):
    pytest.importorskip("pyarrow")
    n_items = 70_000
    rows = np.stack([np.arange(n_items) // 300, np.arange(n_items) % 300], axis=1)
    sids = semid.SemanticIds([f"item {i}" for i in range(n_items)], rows)
    sids.to_parquet(tmp_path / "ids.parquet")
    assert semid.SemanticIds.from_parquet(tmp_path / "ids.parquet").fingerprint == sids.fingerprint
    assert list(sids) == [f"item {i}" for i in range(n_items)]


def test_tables_of_other_tools(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "theirs.parquet"
    parquet.write_table(arrow.table({"code_1": [4, 0], "item_id": [7, 8], "code_0": [1, 0], "title": ["a", "b"]}), path)
    sids = semid.SemanticIds.from_parquet(path, codebook_sizes=[2, 8])
    assert sids.codes_of(7).tolist() == [1, 4] and sids.codebook_sizes == (2, 8)
    cases = [
        ({"id": [1], "code_0": [1]}, r"has other columns: expected item_id, code_0 and so on, got \['id', 'code_0'\]"),
        ({"item_id": [1], "code_1": [1]}, r"has gaps: expected columns \['code_0'\], got \['code_1'\]"),
        (
            {"item_id": [1], "code_0": [1.5]},
            "a wrong column 'code_0': expected integers without nulls, got double with 0",
        ),
        ({"item_id": [1, 2], "code_0": [1, None]}, "got int64 with 1 nulls"),
    ]
    for columns, message in cases:
        parquet.write_table(arrow.table(columns), path)
        with pytest.raises(FormatError, match=message):
            semid.SemanticIds.from_parquet(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(FormatError, match=r"expected a parquet file, got .* Write it again"):
        semid.SemanticIds.from_parquet(path)
    with pytest.raises(FormatError, match=r"expected a parquet file, got no such file"):
        semid.SemanticIds.from_parquet(tmp_path / "none.parquet")


def test_views_of_a_table_without_metadata(two_views, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "ids.parquet"
    two_views.to_parquet(path)
    table = parquet.read_table(path)
    parquet.write_table(table.select(table.column_names[::-1]).replace_schema_metadata(None), path)
    again = semid.SemanticIds.from_parquet(path, codebook_sizes=two_views.codebook_sizes)
    assert again.fingerprint == two_views.fingerprint


@pytest.mark.parametrize(
    "noted",
    [b"junk", b"\xff", b"[]", b"3", b'{"views": 3}', b'{"views": [3]}', b'{"codebook_sizes": "ab"}',
     b'{"codebook_sizes": [2, "x"]}', b'{"codebook_sizes": {"a": [2]}}'],
)  # fmt: skip
def test_metadata_of_others(tmp_path, noted):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"item_id": [7], "code_0": [1]}).replace_schema_metadata({b"semid": noted})
    parquet.write_table(table, tmp_path / "theirs.parquet")
    with pytest.raises(FormatError, match=r"foreign entry 'semid' in its metadata: expected views and codebook sizes"):
        semid.SemanticIds.from_parquet(tmp_path / "theirs.parquet")


def test_missing_packages(sids, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OptionalDependencyError, match=r"cannot import pandas: .* Run pip install pandas"):
        sids.to_pandas()
    for call in (sids.to_parquet, semid.SemanticIds.from_parquet):
        with pytest.raises(OptionalDependencyError, match=r"pip install 'semid\[data\]'"):
            call(tmp_path / "ids.parquet")


def test_pandas_gets_the_columns(two_views, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=dict))
    frame = two_views.to_pandas()
    assert frame["item_id"] == [10, 20, 30]
    assert frame["semantic_code_1"].tolist() == [1, 0, 0] and len(frame) == 6


def test_pandas(sids):
    pytest.importorskip("pandas")
    frame = sids.to_pandas()
    assert frame.columns.tolist() == ["item_id", "code_0", "code_1"] and frame.item_id.tolist() == list(sids)
