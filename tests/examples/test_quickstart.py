"""The one-screen program runs, and what it prints is true."""

import re
import runpy
from pathlib import Path


def test_quickstart_finds_the_digits(capsys):
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "quickstart.py"), run_name="__main__")
    out = capsys.readouterr().out
    found = {word: int(right) for word, right in re.findall(r"^(\w+): (\d+) of 10 are right", out, flags=re.MULTILINE)}
    assert set(found) == {"seven", "two"} and min(found.values()) >= 8
    assert "1,797 distinct semantic IDs: collision rate 0.00%" in out
