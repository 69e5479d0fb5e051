"""The notebook runs, cell by cell, and what is stored in it is what its code has printed and drawn."""

import base64
import json
import re

import matplotlib
import matplotlib.pyplot as plt
import pytest
from gensar.lab.notebook import NOTEBOOK, code_cells, code_hash, execute

from semid.errors import OptionalDependencyError

N_PICTURES = 6
MAX_BYTES = 1_000_000


@pytest.fixture(scope="module")
def stored():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


@pytest.fixture
def without_display():
    before = matplotlib.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


def test_all_cells_run_on_the_tiny_preset(
    stored, data, cached_embeddings, without_display, tmp_path, monkeypatch, capsys
):
    """By exec instead of a Jupyter kernel, which would be thirty packages more to install."""
    monkeypatch.setenv("GENSAR_PRESET", "tiny")
    monkeypatch.setenv("GENSAR_DATA", str(data))
    monkeypatch.setenv("GENSAR_RUN", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    n_pictures = 0
    for number, source in enumerate(code_cells(stored)):
        exec(compile(source, f"code cell {number}", "exec"), names)
        n_pictures += len(plt.get_fignums())
        plt.close("all")
    assert n_pictures == N_PICTURES
    printed = capsys.readouterr().out
    assert "toydata: 20 users, 100 items, 4 queries" in printed
    for task in ("recommendation", "search"):
        assert re.search(rf"{task}: (\d+) of \1 generated IDs are those of items", printed)
    assert (tmp_path / "run" / "checkpoint.pt").is_file()


def test_stored_outputs_are_those_of_the_stored_code(stored):
    hint = "the notebook was changed after it ran: run cd examples && python -m gensar.lab.notebook"
    assert stored["metadata"]["outputs_of"] == code_hash(stored), hint
    cells = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    # No errors, and no warnings, which go to stderr.
    assert {(output["output_type"], output.get("name")) for output in outputs} == {
        ("stream", "stdout"),
        ("display_data", None),
    }
    pictures = [base64.b64decode(output["data"]["image/png"]) for output in outputs if "data" in output]
    assert len(pictures) == N_PICTURES and all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_the_notebook_is_small_and_tells_nothing_of_a_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text.encode()) < MAX_BYTES
    assert not re.search("/(home|Users)/", text) and "site-packages" not in text


def minimal(source):
    cell = {
        "cell_type": "code", "execution_count": None, "id": "one", "metadata": {}, "outputs": [], "source": source,
    }  # fmt: skip
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def test_execute_stores_outputs_and_their_code(tmp_path):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    (tmp_path / "data.txt").write_text("forty-two")
    path = tmp_path / "one.ipynb"
    path.write_text(json.dumps(minimal("print(open('data.txt').read())")))
    execute(path, folder=tmp_path)
    done = json.loads(path.read_text())
    [output] = done["cells"][0]["outputs"]
    assert "".join(output["text"]) == "forty-two\n"
    assert done["cells"][0]["metadata"] == {} and done["metadata"]["outputs_of"] == code_hash(done)


def test_other_code_has_another_hash():
    assert code_hash(minimal("a = 1")) != code_hash(minimal("a = 2"))
    assert code_hash(minimal(["a = 1\n", "b"])) == code_hash(minimal("a = 1\nb"))


def test_a_missing_nbclient_is_named(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", missing)
    message = r"cannot import nbclient: expected it to run a notebook, got .*\. Run pip install nbclient ipykernel\."
    with pytest.raises(OptionalDependencyError, match=message):
        execute(tmp_path / "one.ipynb", folder=tmp_path)
