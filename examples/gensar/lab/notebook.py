"""Run gensar.ipynb and store its outputs in it, with the hash of the code that they come from.

    pip install nbclient ipykernel
    cd examples && python -m gensar.lab.notebook                 # GENSAR_PRESET=tiny to try it

The tests run the cells without this program. They fail if the code was changed after the outputs were stored.
"""

import hashlib
import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semid.errors import OptionalDependencyError, SemidError

from ..files import write_whole

__all__ = ["NOTEBOOK", "code_cells", "code_hash", "execute", "main"]

EXAMPLES = Path(__file__).parents[2]
NOTEBOOK = EXAMPLES / "gensar.ipynb"


def code_cells(notebook: Mapping[str, Any]) -> list[str]:
    """Return the sources of the code cells."""
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def code_hash(notebook: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all code."""
    return hashlib.sha256("\0".join(code_cells(notebook)).encode()).hexdigest()


def execute(path: Path, *, folder: Path) -> None:
    """Run all cells in a fresh kernel whose working directory is `folder`, and write the notebook, whole or not at all.

    Raises
    ------
    OptionalDependencyError
        If nbclient is not installed.
    CellExecutionError
        Of nbclient, if a cell fails; the file is left as it was.
    """
    try:
        nbclient, nbformat = (importlib.import_module(name) for name in ("nbclient", "nbformat"))
    except ImportError as error:
        raise OptionalDependencyError(
            f"cannot import nbclient: expected it to run a notebook, got {error}. Run pip install nbclient ipykernel."
        ) from error
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    # tqdm asks for ipywidgets, whose bars would not be in the stored page.
    client.execute(env={**os.environ, "PYTHONWARNINGS": "ignore:IProgress not found"})
    for cell in notebook["cells"]:
        cell["metadata"].pop("execution", None)  # times of day, which differ in every run
    # Other metadata describe the machine that it ran on.
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "outputs_of": code_hash(notebook),
    }
    text = nbformat.writes(notebook) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def main() -> int:
    """Execute the notebook of this folder; 0 when it went through, 1 when something is missing."""
    try:
        execute(NOTEBOOK, folder=EXAMPLES)
    except SemidError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {NOTEBOOK}: {NOTEBOOK.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
