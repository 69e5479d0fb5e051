"""Compare ways to deal with collisions on real data sets: ``python -m benchmarks.compare_collisions [--table]``.

Reads the data sets below ``SEMID_DATA``, writes ``benchmarks/results/compare_collisions.json``, its tables into
``docs/collisions.md`` and its picture into ``docs/images/collisions.png``.
"""

import argparse
import csv
import gzip
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import semid
from benchmarks.compare_quantizers import DATA_SETS, machine
from semid.collisions.sizes import expected_collision_rate
from semid.plots.style import PALETTE

__all__ = ["draw", "insert_tables", "policies_table", "room_exponent", "sizes_table"]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "compare_collisions.json"
PAGE = ROOT / "docs" / "collisions.md"
PICTURE = ROOT / "docs" / "images" / "collisions.png"
REFITTED = "nearest, refit twice"
POLICIES = ("greedy", "suffix", "sinkhorn", "nearest", REFITTED)
SHAPES = ((2, 256), (3, 64), (3, 256), (4, 256), (3, 1024))


def load(folder):
    """Return the embeddings, and the item of each test interaction."""
    X = np.load(folder / "item_emb_minilm_f16.npy").astype(np.float32)
    with gzip.open(folder / "interactions.csv.gz", "rt", encoding="utf-8") as lines:
        targets = [int(row["item_id"]) for row in csv.DictReader(lines) if row["split"] == "test"]
    return X, np.array(targets)


def room_exponent(n_items, n_ids, rate):
    """Return a such that random codes among ``n_ids ** a`` IDs would collide at this rate."""
    low, high = 0.0, 1.5
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expected_collision_rate(n_items, n_ids**middle) > rate else (low, middle)
    return (low + high) / 2


def compare_policies(X, targets):
    """Return one row per policy: codes of ResidualKMeans, 3 x 256."""
    quantizer = semid.ResidualKMeans(n_levels=3, codebook_size=256, seed=0).fit(X)
    greedy = quantizer.encode(X)
    for policy in POLICIES:
        begin = time.process_time()
        if policy == REFITTED:  # the last one, as it changes the quantizer
            for _ in range(2):
                quantizer.refit(X, semid.resolve(quantizer, X).codes)
            resolved = semid.resolve(quantizer, X)
        else:
            resolved = None if policy == "greedy" else semid.resolve(quantizer, X, greedy, policy=policy)
        seconds = time.process_time() - begin
        codes = greedy if resolved is None else resolved.codes
        _, group, sizes = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
        shared = sizes[group.reshape(-1)]
        report = semid.report(X, codes[:, :3], quantizer)
        yield {
            "policy": policy,
            "n_items": len(X),
            "collision_rate": 1 - len(sizes) / len(X),
            "largest_group": int(sizes.max()),
            "n_moved": 0 if resolved is None else resolved.n_moved,
            "n_numbered": int((codes[:, 3] > 0).sum()) if codes.shape[1] > 3 else 0,
            "relative_distortion": report.relative_distortion,
            # Of a model that always generates the right ID: it names one item of the group, or ten.
            "best_hit_rate_1": float((1 / shared[targets]).mean()),
            "best_hit_rate_10": float(np.minimum(1, 10 / shared[targets]).mean()),
            "cpu_seconds": seconds,
        }


def compare_sizes(X):
    """Return one row per shape of IDs: the collision rate of greedy codes beside that of random ones."""
    for n_levels, size in SHAPES:
        codes = semid.ResidualKMeans(n_levels=n_levels, codebook_size=size, seed=0).fit(X).encode(X)
        rate, n_ids = 1 - len(np.unique(codes, axis=0)) / len(X), size**n_levels
        yield {
            "n_levels": n_levels, "codebook_size": size, "n_items": len(X), "collision_rate": rate,
            "random_rate": expected_collision_rate(len(X), n_ids), "room_exponent": room_exponent(len(X), n_ids, rate),
        }  # fmt: skip


def policies_table(rows):
    """Return the policies as Markdown."""
    lines = [
        "| data set | policy | collisions | largest group | moved | numbered | distortion | "
        "best HR@1 | best HR@10 | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            f"{row['data_set']}, {row['n_items']:,} items", row["policy"], f"{row['collision_rate']:.1%}",
            f"{row['largest_group']}", f"{row['n_moved']:,}", f"{row['n_numbered']:,}",
            f"{row['relative_distortion']:.2%}", f"{row['best_hit_rate_1']:.1%}", f"{row['best_hit_rate_10']:.1%}",
            f"{row['cpu_seconds']:.1f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def sizes_table(rows):
    """Return the shapes as Markdown."""
    lines = ["| data set | levels x codes | random codes | measured | exponent |", "|---|---|---|---|---|"]
    for row in rows:
        cells = [
            row["data_set"], f"{row['n_levels']} x {row['codebook_size']}", f"{row['random_rate']:.2%}",
            f"{row['collision_rate']:.1%}", f"{row['room_exponent']:.2f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def insert_tables(page, results):
    """Return the page with the tables of the results between their marks."""
    for name, text in (
        ("policies", f"{policies_table(results['policies'])}\n\n{results['machine']}"),
        ("sizes", sizes_table(results["sizes"])),
    ):
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        head, rest = page.split(begin)
        _, tail = rest.split(end)
        page = f"{head}{begin}\n{text}\n\n{end}{tail}"
    return page


def draw(results, path):
    """Draw what each policy costs into a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(13, 3.8), layout="constrained")
    rows = results["policies"]
    data_sets = list(dict.fromkeys(row["data_set"] for row in rows))
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    width = 0.8 / len(policies)
    for number, policy in enumerate(policies):
        chosen = [next(r for r in rows if (r["data_set"], r["policy"]) == (name, policy)) for name in data_sets]
        x = np.arange(len(data_sets)) + (number - (len(policies) - 1) / 2) * width
        for panel, key in zip(panels, ("best_hit_rate_1", "relative_distortion"), strict=True):
            bars = panel.bar(x, [100 * row[key] for row in chosen], width * 0.92, color=PALETTE[number], label=policy)
            panel.bar_label(bars, fmt="%.3g", fontsize=7)
    for panel, title in zip(
        panels, ("HR@1 of a model that is always right, %", "distortion, % of the variance"), strict=True
    ):
        panel.set_title(title, fontsize=10)
        panel.set_xticks(np.arange(len(data_sets)), data_sets, fontsize=8)
        panel.spines[["right", "top"]].set_visible(False)
    panels[0].set_ylim(0, 112)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(policies), frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="measure nothing, write tables and picture again")
    if not parser.parse_args().table:
        results = {"machine": machine(), "policies": [], "sizes": []}
        for data_set in DATA_SETS:
            X, targets = load(Path(os.environ["SEMID_DATA"]) / data_set)
            with threadpool_limits(1):
                results["policies"] += [{"data_set": data_set} | row for row in compare_policies(X, targets)]
                results["sizes"] += [{"data_set": data_set} | row for row in compare_sizes(X)]
        assert not any(math.isnan(row["relative_distortion"]) for row in results["policies"])
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(RESULTS.read_text())
    draw(results, PICTURE)
    if PAGE.exists():
        PAGE.write_text(insert_tables(PAGE.read_text(), results))


if __name__ == "__main__":
    sys.exit(main())
