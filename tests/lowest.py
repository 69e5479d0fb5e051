"""Print pip constraints that pin every dependency to the lowest version that pyproject.toml declares.

Tools of the tests alone keep the versions of constraints.txt: nobody installs them to use semid.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = {"test", "lint", "bench"}


def declared():
    """Return the lowest declared version of each dependency, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"]]
    lists += [names for extra, names in project["optional-dependencies"].items() if extra not in TOOLS]
    found = {}
    for requirement in (one for names in lists for one in names):
        match = re.fullmatch(r"([\w-]+)(?:>=([\w.]+))?", requirement)
        if match and match[2]:
            found[match[1]] = match[2]
    return found


def constraints():
    """Return one pin per dependency."""
    lowest = declared()
    pins = [f"{name}=={version}" for name, version in sorted(lowest.items())]
    pinned = (line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    tools = {"hypothesis", "ir-measures", "mypy", "pytest", "pytest-benchmark", "ruff", "sybil"}
    return pins + [line for line in pinned if line.split("==")[0] in tools - lowest.keys()]


if __name__ == "__main__":
    sys.stdout.write("\n".join(constraints()) + "\n")
