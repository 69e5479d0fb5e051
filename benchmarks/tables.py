"""Reports of pytest-benchmark as Markdown tables."""

import os
import platform
import statistics
from importlib.metadata import PackageNotFoundError, version

from benchmarks.side_by_side import ratios

__all__ = ["table"]

PACKAGES = ("semid", "numpy", "numba", "marisa-trie", "scikit-learn", "faiss-cpu", "semantic-id", "torch")


def table(report):
    """Return Markdown of one report: each rival's time over semid's, round by round, and what it achieved in it."""
    entries = report["benchmarks"]
    compared = [entry for entry in entries if len(entry["extra_info"].get("seconds", {})) > 1]
    clock = "CPU time" if any(entry["extra_info"].get("clock") == "CPU" for entry in compared) else "Time"
    with_results = any("results" in entry["extra_info"] for entry in compared)
    lines = [
        f"{clock} of each library as a multiple of semid's in the same round: median (lowest .. highest).",
        "",
        "| task | items | library | time / semid's | rounds |" + (" seconds | result |" if with_results else ""),
        "|---|---|---|---|---|" + ("---|---|" if with_results else ""),
    ]
    for entry in compared:
        lines += _rows(entry, with_results=with_results)
    alone = [entry for entry in entries if "results" in entry["extra_info"] and entry not in compared]
    if alone:
        lines += ["", "| task, without a rival | items | call | result |", "|---|---|---|---|"]
    for entry in alone:
        for name, result in entry["extra_info"]["results"].items():
            lines.append(f"| {entry['group']} | {entry['extra_info']['n_items']:,} | {name} | {_result(result)} |")
    memory = [entry for entry in entries if "mebibytes" in entry["extra_info"]]
    if memory:
        lines += ["", "| task | items | phase | MiB |", "|---|---|---|---|"]
    for entry in memory:
        for phase, mebibytes in entry["extra_info"]["mebibytes"].items():
            lines.append(f"| {entry['group']} | {entry['extra_info']['n_items']:,} | {phase} | {mebibytes:,.0f} |")
    measured = [entry for entry in entries if "measured" in entry["extra_info"]]
    if measured:
        lines += ["", "| task | items | reported, not asserted |", "|---|---|---|"]
    for entry in measured:
        task = _task(entry)
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in
                            entry["extra_info"]["measured"].items())  # fmt: skip
        lines.append(f"| {task} | {entry['extra_info']['n_items']:,} | {figures} |")
    missing = sorted({name for entry in entries for name in entry["extra_info"].get("missing", ())})
    if missing:
        lines += ["", f"Not installed, and so not measured: {', '.join(missing)}."]
    return "\n".join([*lines, "", _machine(report)]) + "\n"


def _rows(entry, *, with_results):
    info = entry["extra_info"]
    seconds, results = info["seconds"], info.get("results", {})
    task = _task(entry)
    for name, (median, low, high) in ratios(seconds, of=next(iter(seconds))).items():
        ratio = f"{median:.3g}" + (f" ({low:.3g} .. {high:.3g})" if low < high else "")
        cells = [task, f"{info['n_items']:,}", name, ratio, str(len(seconds[name]))]
        if with_results:
            cells += [f"{statistics.median(seconds[name]):.3g}", _result(results.get(name, {}))]
        yield f"| {' | '.join(cells)} |"


def _task(entry):
    params = ", ".join(_parameter(name, value) for name, value in (entry["params"] or {}).items())
    return entry["group"] + (f", {params}" if params else "")


def _parameter(name, value):
    """Return how a task names a parameter of its test."""
    if name == "n_threads":
        return f"{value} thread{'s' if value > 1 else ''}"
    return f"{name} {value}" if isinstance(value, int | float) else str(value)


def _result(result):
    """Return measured figures as text; shares are percentages."""
    texts = []
    for name, value in result.items():
        if isinstance(value, bool):
            text = str(value).lower()
        elif isinstance(value, list):
            text = "/".join(f"{part:.0f}" for part in value)
        else:
            text = f"{value:.3%}"
        texts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(texts)


def _machine(report):
    installed = []
    for name in PACKAGES:
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    cpu = report["machine_info"]["cpu"].get("brand_raw", platform.processor())
    python = platform.python_version()
    return f"{cpu}, {os.cpu_count()} cores, Python {python}, {', '.join(installed)}, {report['datetime'][:10]}."
