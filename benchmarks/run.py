"""Run the benchmarks and write their tables: ``python -m benchmarks.run [pytest arguments]``."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.growth import draw_growth
from benchmarks.tables import table

RESULTS = Path(__file__).parent / "results"


def main():
    """Run every benchmark file given (all by default) and write one JSON and one Markdown file for each.

    With ``-k``, a run of some of the tests, the other tests keep their rows.
    """
    arguments = sys.argv[1:]
    files = [Path(a) for a in arguments if a.endswith(".py")] or sorted(Path(__file__).parent.glob("bench_*.py"))
    options = [a for a in arguments if not a.endswith(".py")]
    RESULTS.mkdir(exist_ok=True)
    # Threads that wait must sleep: spinning ones count as CPU time, and take the core from who works.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
    failed = 0
    for file in files:
        with tempfile.TemporaryDirectory() as scratch:
            raw = Path(scratch) / "report.json"
            command = [sys.executable, "-m", "pytest", str(file), "--benchmark-enable", f"--benchmark-json={raw}"]
            failed |= subprocess.call([*command, *options], env=environment)
            if not raw.exists() or not raw.stat().st_size:
                continue
            report = json.loads(raw.read_text())
        path = RESULTS / f"{file.stem}.json"
        if "-k" in options and path.exists():
            report["benchmarks"] = _merge(json.loads(path.read_text())["benchmarks"], report["benchmarks"])
        for entry in report["benchmarks"]:
            # Thousands of single timings; the medians and the interleaved rounds stay.
            entry["stats"].pop("data", None)
        report.get("commit_info", {}).pop("project", None)
        report["machine_info"].pop("node", None)
        path.write_text(json.dumps(report, indent=1) + "\n")
        (RESULTS / f"{file.stem}.md").write_text(table(report))
        draw_growth(report, RESULTS / f"{file.stem}_growth.png")
        print(f"\n{table(report)}")
    return failed


def _merge(old, new):
    """Return the entries of a run of some tests in place of their older ones, and the older ones of all others."""
    entries = {entry["fullname"]: entry for entry in old} | {entry["fullname"]: entry for entry in new}
    return [entries[name] for name in sorted(entries)]


if __name__ == "__main__":
    sys.exit(main())
