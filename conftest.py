"""Everything that is documentation runs: code blocks of README and docs, and the examples in docstrings."""

import contextlib
import os
from collections.abc import Iterator

# Idle OpenMP threads that spin starve the ones that work when cores are few; libgomp reads this when torch loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from doctest import ELLIPSIS, NORMALIZE_WHITESPACE

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser


@pytest.fixture(scope="module", autouse=True)
def _in_a_scratch_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Documents write files: each runs in a folder of its own."""
    if not request.node.name.endswith(".md"):
        yield
        return
    with contextlib.chdir(tmp_path_factory.mktemp("document")):
        yield


pytest_collect_file = (
    Sybil(
        parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS | NORMALIZE_WHITESPACE), SkipParser()],
        patterns=["README.md", "docs/*.md"],
        fixtures=["_in_a_scratch_folder"],
    )
    + Sybil(
        parsers=[DocTestParser(optionflags=ELLIPSIS | NORMALIZE_WHITESPACE)], patterns=["semid/**/*.py", "semid/*.py"]
    )
).pytest()
