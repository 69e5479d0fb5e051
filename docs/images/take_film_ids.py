"""Write docs/images/film_ids.png, a picture that the notebook examples/gensar.ipynb stores in its outputs.

The notebook's outputs belong to its code (tests/examples/test_notebook.py), so the picture is a result of a run.
"""

import base64
import json
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "examples" / "gensar.ipynb"
CALL = "title_tree(panel"  # stands in the cell that draws the picture


def film_ids() -> bytes:
    """Return the PNG that the cell with `CALL` has stored."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    (cell,) = [cell for cell in cells if cell["cell_type"] == "code" and CALL in "".join(cell["source"])]
    (picture,) = [out["data"]["image/png"] for out in cell["outputs"] if "image/png" in out.get("data", {})]
    return base64.b64decode("".join(picture))


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("film_ids.png")
    path.write_bytes(film_ids())
