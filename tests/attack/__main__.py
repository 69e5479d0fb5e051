"""Run attacks and store what they found: ``python -m attack [names] [--scale 0.01]``."""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

from cpuinfo import get_cpu_info

from attack.page import NAMES, PAGE, RESULTS, render

PACKAGES = ("numpy", "torch", "transformers", "numba", "safetensors", "marisa-trie")


def main():
    """Run the attacks that are named, all by default; return 1 if one of them found a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the numbers of tries")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"unknown attacks {unknown}, choose some of {list(NAMES)}")
    found = 0
    for name in options.names or NAMES:
        started = time.monotonic()
        rows = importlib.import_module(f"attack.{name}").attack(options.scale)
        faults = sum(sum(row.faults.values()) for row in rows)
        found += faults
        for row in rows:
            print(f"{name}: {row.what}: {row.tried:,} tries, {row.faults} {row.figures}", *row.examples, sep="\n    ")
        if options.scale == 1:
            RESULTS.mkdir(exist_ok=True)
            result = {
                "date": datetime.now(UTC).date().isoformat(),
                "minutes": round((time.monotonic() - started) / 60, 1),
                "processor": get_cpu_info()["brand_raw"],
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "packages": {one: version(one) for one in PACKAGES},
                "rows": [asdict(row) for row in rows],
            }
            (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
            PAGE.write_text(render(PAGE.read_text()))
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
