"""What the documentation shows is what a committed run printed."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHOWN = re.compile(r"<!-- table: (?P<file>\S+) -->\n```text\n(?P<table>.*?)\n```", flags=re.DOTALL)


def pages():
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_tables_come_from_result_files():
    shown = [(page, match) for page in pages() for match in SHOWN.finditer(page.read_text(encoding="utf-8"))]
    assert shown
    for page, match in shown:
        results = json.loads((ROOT / match["file"]).read_text(encoding="utf-8"))
        assert match["table"].strip("\n") == results["table"].strip("\n"), f"{page.name} shows another table"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing, f"{page.name} links to files that do not exist: {missing}"
