"""Run the benchmarks and write their tables: ``python -m benchmarks.run [pytest arguments]``."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.side_by_side import ratios

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("semid", "numpy", "numba", "marisa-trie")


def table(report):
    """Return a Markdown table of one pytest-benchmark report: each rival's time over semid's, round by round."""
    lines = [
        "Time of each library as a multiple of semid's in the same round: median (lowest .. highest).",
        "",
        "| task | items | library | time / semid's | rounds |",
        "|---|---|---|---|---|",
    ]
    for entry in report["benchmarks"]:
        seconds = entry["extra_info"]["seconds"]
        base = next(iter(seconds))
        task = entry["group"] + (f", depth {entry['params']['depth']}" if entry["params"] else "")
        for name, (median, low, high) in ratios(seconds, of=base).items():
            n_items, rounds = entry["extra_info"]["n_items"], len(seconds[name])
            lines.append(f"| {task} | {n_items:,} | {name} | {median:.3g} ({low:.3g} .. {high:.3g}) | {rounds} |")
    cpu = report["machine_info"]["cpu"]
    installed = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines += ["", f"{cpu.get('brand_raw', platform.processor())}, {os.cpu_count()} cores, Python "
              f"{platform.python_version()}, {installed}, {report['datetime'][:10]}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def main():
    """Run every benchmark file given (all by default) and write one JSON and one Markdown file for each."""
    arguments = sys.argv[1:]
    files = [Path(a) for a in arguments if a.endswith(".py")] or sorted(Path(__file__).parent.glob("bench_*.py"))
    options = [a for a in arguments if not a.endswith(".py")]
    RESULTS.mkdir(exist_ok=True)
    failed = 0
    for file in files:
        with tempfile.TemporaryDirectory() as scratch:
            raw = Path(scratch) / "report.json"
            command = [sys.executable, "-m", "pytest", str(file), "--benchmark-enable", f"--benchmark-json={raw}"]
            failed |= subprocess.call([*command, *options])
            if not raw.exists() or not raw.stat().st_size:
                continue
            report = json.loads(raw.read_text())
        for entry in report["benchmarks"]:
            del entry["stats"]["data"]  # thousands of single timings; the medians and the interleaved rounds stay
        report.get("commit_info", {}).pop("project", None)
        report["machine_info"].pop("node", None)
        (RESULTS / f"{file.stem}.json").write_text(json.dumps(report, indent=1) + "\n")
        (RESULTS / f"{file.stem}.md").write_text(table(report))
        print(f"\n{table(report)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
