"""The core does not depend on the experiments, and knows only the names in its tables."""

import ast
import dataclasses
from pathlib import Path

import pytest
from gensar import run
from gensar.options import make_parser, options_of
from gensar.run import MAIN

from semid.errors import InvalidValueError

CORE = sorted(Path(run.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_no_module_of_the_core_imports_the_lab(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith(("lab", "gensar.lab"))
            assert all(name.name != "lab" for name in node.names)
        elif isinstance(node, ast.Import):
            assert all("lab" not in name.name.split(".") for name in node.names)


def test_the_core_is_small_and_the_reading_order_names_all_of_it():
    assert len(CORE) <= 20
    readme = (CORE[0].parent / "README.md").read_text(encoding="utf-8")
    modules = [path.name for path in CORE if path.stem != "__init__"]
    assert [name for name in modules if f"`{name}`" not in readme] == []
    lab = [path for path in (CORE[0].parent / "lab").glob("*.py") if path.stem != "__init__"]
    assert [
        path.name for path in lab if f"lab/{path.name}" not in readme and f"gensar.lab.{path.stem}" not in readme
    ] == []


@pytest.mark.parametrize(
    ("where", "name", "switch"),
    [
        ("recipe", "identifier", "identifier"),
        ("recipe", "history", "history"),
        ("recipe", "training_tasks", "training-tasks"),
        ("options", "trainer", "trainer"),
        ("options", "decoder", "decoder"),
        ("options", "baselines", "baselines"),
        ("options", "evaluation", "evaluation"),
    ],
)
def test_a_name_in_no_table_is_refused(where, name, switch):
    options = options_of(make_parser(None), [])
    MAIN.check(options)
    if where == "recipe":
        options = dataclasses.replace(options, recipe=dataclasses.replace(options.recipe, **{name: "other"}))
    else:
        options = dataclasses.replace(options, **{name: "other"})
    with pytest.raises(InvalidValueError, match=rf"--{switch} is unknown: expected one of \[.*\], got 'other'\."):
        MAIN.check(options)
