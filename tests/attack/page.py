"""The tables of docs/reliability.md, from the results of the attacks."""

import importlib
import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
# In the order of the page.
NAMES = ("selections", "families", "kills", "readers", "damage", "forgeries", "fuzz", "threads", "memory", "mutants")


def render(text: str) -> str:
    """Return the page with the table of each attack between its two marks."""
    for name in NAMES:
        path = RESULTS / f"{name}.json"
        table = _table(name, json.loads(path.read_text())) if path.exists() else "Not run yet.\n"
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if [text.count(start), text.count(end)] != [1, 1]:
            raise ValueError(f"expected the marks {start} and {end} once each in the page")
        head, rest = text.split(start)
        text = head + start + "\n" + table + end + rest.split(end)[1]
    return text


def _table(name: str, result: dict) -> str:
    module = importlib.import_module(f"attack.{name}")
    if hasattr(module, "table"):
        body = module.table(result)
    else:
        lines = ["| what was tried | tries | faults | figures |", "|---|---|---|---|"]
        for row in result["rows"]:
            faults = ", ".join(f"{count:,} {kind}" for kind, count in row["faults"].items())
            figures = ", ".join(f"{key} {value}" for key, value in row["figures"].items())
            lines.append(f"| {row['what']} | {row['tried']:,} | {faults} | {figures} |")
        body = "\n".join(lines) + "\n"
    packages = ", ".join(f"{one} {number}" for one, number in result["packages"].items())
    machine = f"{result['minutes']} minutes on {result['cores']} cores of {result['processor']}"
    return f"\n{body}\n*{result['date']}, {machine}; Python {result['python']}, {packages}.*\n\n"
