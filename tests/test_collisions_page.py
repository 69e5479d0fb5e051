"""The page on collisions shows the committed results, and the capacity rule stands on them."""

import json
import statistics

import pytest

from benchmarks.compare_collisions import (
    PAGE,
    POLICIES,
    RESULTS,
    draw,
    insert_tables,
    policies_table,
    room_exponent,
    sizes_table,
)
from benchmarks.compare_quantizers import DATA_SETS
from semid.collisions.sizes import ROOM_EXPONENTS, expected_collision_rate

MEASURED = json.loads(RESULTS.read_text())


def test_the_page_shows_the_committed_results():
    page = PAGE.read_text()
    assert insert_tables(page, MEASURED) == page
    assert len(policies_table(MEASURED["policies"]).splitlines()) == 2 + len(POLICIES) * len(DATA_SETS)
    assert len(sizes_table(MEASURED["sizes"]).splitlines()) == 2 + len(MEASURED["sizes"])


def test_the_rule_takes_the_measured_exponents():
    exponents = [row["room_exponent"] for row in MEASURED["sizes"] if row["n_levels"] == 3]
    found = min(exponents), statistics.median(exponents), max(exponents)
    assert found == pytest.approx(ROOM_EXPONENTS, abs=0.005)


def test_an_exponent_gives_its_rate_back():
    exponent = room_exponent(5000, 64**3, 0.2)
    assert expected_collision_rate(5000, 64 ** (3 * exponent)) == pytest.approx(0.2)


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    draw(MEASURED, tmp_path / "collisions.png")
    assert (tmp_path / "collisions.png").stat().st_size > 1000
