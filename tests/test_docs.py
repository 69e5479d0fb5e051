"""What the documentation shows is what a committed run printed, and its links lead somewhere."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
SHOWN = re.compile(r"<!-- table: (?P<file>\S+) -->\n```text\n(?P<table>.*?)\n```", flags=re.DOTALL)
CODE = re.compile(r"^```.*?^```", flags=re.DOTALL | re.MULTILINE)


def pages():
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def links_of(page):
    """Return path and anchor of each link that leads to a file of the project or to a place on the page itself."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)", text)


def anchors_of(page):
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def script(name):
    spec = importlib.util.spec_from_file_location(name, IMAGES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_come_from_result_files():
    shown = [(page, match) for page in pages() for match in SHOWN.finditer(page.read_text(encoding="utf-8"))]
    assert shown
    for page, match in shown:
        results = json.loads((ROOT / match["file"]).read_text(encoding="utf-8"))
        assert match["table"].strip("\n") == results["table"].strip("\n"), f"{page.name} shows another table"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    missing = [path for path, _ in links_of(page) if not (page.parent / path).exists()]
    assert not missing, f"{page.name} links to files that do not exist: {missing}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_anchors_name_a_heading(page):
    targets = [(page.parent / path if path else page, anchor) for path, anchor in links_of(page) if anchor]
    missing = [f"{target.name}#{anchor}" for target, anchor in targets if anchor not in anchors_of(target)]
    assert not missing, f"{page.name} links to headings that do not exist: {missing}"


def test_every_page_can_be_reached_from_the_readme():
    linked = {(ROOT / path).resolve() for path, _ in links_of(ROOT / "README.md")}
    assert not [page.name for page in pages() if page.resolve() not in linked | {ROOT / "README.md"}]


def test_the_speed_in_the_readme_is_the_measured_one():
    """The pitch, and the bars of the picture."""
    speed = script("draw_speed")
    exact = speed.search_bars()[speed.WAYS["semid, full"]].values()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{min(exact):.0f} to {max(exact):.0f} times as fast on a CPU" in " ".join(text.split())


def test_the_pictures_of_the_readme_are_drawn(tmp_path):
    script("draw_speed").draw(tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000
    assert script("take_film_ids").film_ids().startswith(b"\x89PNG")


def test_the_figures_of_wide_beams_are_the_measured_ones():
    """Model, requests and beams, prompt; then how many times as fast window and full are as Hugging Face's search."""
    speed = script("draw_speed")
    shapes = {"T5-small shape": "t5", "Qwen2, hidden 256": "qwen2", "Qwen2-0.5B shape": "qwen2-0.5b"}
    measured = speed.seconds_of("bench_generate.json")
    text = (ROOT / "docs" / "wide-beams.md").read_text(encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(tuple(f"| {s}" for s in shapes))
    ]
    assert len(rows) == 6
    for model, requests, prompt, window, full, *_ in rows:
        (shape,) = [name for start, name in shapes.items() if model.startswith(start)]
        seconds = measured[f"test_bench_generate[{shape}-{requests.replace(' x ', '-')}-{prompt}]"]
        for shown, ours in ((window, "semid, window"), (full, "semid, full")):
            assert float(shown) == pytest.approx(
                speed.times_as_fast(seconds, ours=ours, rival="HF, unconstrained"), rel=0.005
            )
