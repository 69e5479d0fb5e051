"""The comparison of quantizers: the page holds the table that the committed results give."""

import json

import pytest

from benchmarks.compare_quantizers import DATA_SETS, PAGE, QUANTIZERS, RESULTS, insert_table, table

RESULTS_OF_ALL = json.loads(RESULTS.read_text())


def test_the_page_shows_the_committed_results():
    page = PAGE.read_text()
    assert insert_table(page, RESULTS_OF_ALL) == page


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_every_quantizer_is_measured_on_every_data_set(data_set):
    measured = {row["quantizer"] for row in RESULTS_OF_ALL["rows"] if row["data_set"] == data_set}
    assert measured == set(QUANTIZERS)


def test_a_row_of_the_table():
    row = next(
        r for r in RESULTS_OF_ALL["rows"] if (r["data_set"], r["quantizer"]) == ("amazon_beauty", "ResidualKMeans")
    )
    lines = [line for line in table([row]).splitlines() if line.startswith("| `")]
    assert len(lines) == 1
    cells = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert cells[:3] == ["`ResidualKMeans`", "semantic", f"{row['report']['collision_rate']:.1%}"]
    assert len(cells) == 10
