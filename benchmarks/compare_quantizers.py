"""Compare the quantizers on real data sets: ``python -m benchmarks.compare_quantizers [--only NAME ..] [--table]``.

Reads the data sets below ``SEMID_DATA``, updates ``benchmarks/results/compare_quantizers.json``, and writes its table
into ``docs/choosing-a-quantizer.md``. The fits alone take about seven CPU minutes, five of them those of the networks.
"""

import argparse
import csv
import gzip
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

import semid

__all__ = ["DATA_SETS", "QUANTIZERS", "insert_table", "table"]

RESULTS = Path(__file__).parent / "results" / "compare_quantizers.json"
PAGE = Path(__file__).parent.parent / "docs" / "choosing-a-quantizer.md"
BEGIN, END = "<!-- comparison: begin -->\n", "<!-- comparison: end -->\n"

DATA_SETS = ("amazon_beauty_small", "amazon_beauty", "amazon_industrial")
LEVELS = {"n_levels": 3, "codebook_size": 256}
SHARED = {"n_shared": 1, "n_specific": 2, "codebook_size": 256}
# name in the table -> (class, parameters); all give three codes of 256, but the single level of KMeans.
QUANTIZERS = {
    "KMeans, 1 x 256": ("KMeans", {"codebook_size": 256}),
    "ResidualKMeans": ("ResidualKMeans", LEVELS),
    'ResidualKMeans, init="k-means++"': ("ResidualKMeans", LEVELS | {"init": "k-means++"}),
    "ProductKMeans": ("ProductKMeans", LEVELS),
    'ProductKMeans, rotation="opq"': ("ProductKMeans", LEVELS | {"rotation": "opq"}),
    "RQVAE": ("RQVAE", LEVELS),
    "SharedSpecificKMeans": ("SharedSpecificKMeans", SHARED),
    "SharedSpecificRQVAE": ("SharedSpecificRQVAE", SHARED),
}


def load(folder):
    """Return the semantic view, the collaborative view, and a label per item or None."""
    semantic = np.load(folder / "item_emb_minilm_f16.npy").astype(np.float32)
    with gzip.open(folder / "items.jsonl.gz", "rt", encoding="utf-8") as lines:
        paths = [(json.loads(line)["categories"] or [""])[0].split(" > ") for line in lines]
    labels = [path[1] if len(path) > 1 else "" for path in paths]
    return semantic, collaborative_view(folder, len(semantic)), labels if any(labels) else None


def collaborative_view(folder, n_items, *, dim=64):
    """Return unit rows (n_items, dim) by SVD of the training interactions; zeros for items that nobody bought."""
    with gzip.open(folder / "interactions.csv.gz", "rt", encoding="utf-8") as lines:
        pairs = [(int(row["item_id"]), int(row["user_id"])) for row in csv.DictReader(lines) if row["split"] == "train"]
    items, users = np.array(pairs).T
    bought = sp.csr_matrix((np.ones(len(items)), (items, users)), shape=(n_items, users.max() + 1))
    # Both margins to the power 1/2: neither popular items nor busy users decide the axes.
    scale = [sp.diags(np.maximum(np.asarray(bought.sum(axis=axis)).ravel(), 1) ** -0.5) for axis in (1, 0)]
    left, strengths, _ = randomized_svd(scale[0] @ bought @ scale[1], dim, random_state=0)
    rows = left * np.sqrt(strengths)
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def measure(name, semantic, collaborative, labels):
    """Return one row of the table per view that the quantizer encodes."""
    cls, parameters = QUANTIZERS[name]
    quantizer = getattr(semid, cls)(**parameters)
    several = hasattr(quantizer, "views")
    X = {"semantic": semantic, "collaborative": collaborative} if several else semantic
    begin = time.process_time()
    quantizer.fit(X)
    fit_seconds = time.process_time() - begin
    begin = time.process_time()
    codes = quantizer.encode(X)
    encode_seconds = time.process_time() - begin
    measured = semid.report(X, codes, quantizer, labels=labels)
    fits = np.prod(quantizer.codebook_sizes, dtype=float) >= len(semantic)
    unique = semid.report(X, semid.resolve(quantizer, X).codes, quantizer) if fits else None
    return [
        {
            "quantizer": name,
            "view": view,
            "n_items": len(semantic),
            "fit_cpu_seconds": fit_seconds,
            "encode_items_per_cpu_second": len(semantic) / encode_seconds,
            "report": (measured[view] if several else measured).to_dict(),
            "unique": unique and (unique[view] if several else unique).to_dict(),
        }
        for view in (X if several else ["semantic"])
    ]


def table(rows):
    """Return the rows of the JSON file as Markdown, one table per data set."""
    lines = []
    for data_set in DATA_SETS:
        chosen = [row for row in rows if row["data_set"] == data_set]
        if not chosen:
            continue
        lines += [
            f"**{data_set}**, {chosen[0]['n_items']:,} items",
            "",
            "| quantizer | view | collisions | largest group | perplexity | distortion | distortion, unique | "
            "neighbor recall@10 | purity | fit, CPU s |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in sorted(chosen, key=lambda row: list(QUANTIZERS).index(row["quantizer"])):
            report, unique = row["report"], row["unique"]
            levels = report["levels"]
            purity = levels[0]["prefix_purity"]
            cells = [
                f"`{row['quantizer']}`", row["view"], f"{report['collision_rate']:.1%}", f"{report['largest_group']:,}",
                " / ".join(f"{level['perplexity']:.0f}" for level in levels),
                f"{report['relative_distortion']:.1%}", f"{unique['relative_distortion']:.1%}" if unique else "-",
                f"{report['neighbor_recall']:.1%}", f"{purity:.1%}" if purity is not None else "-",
                f"{row['fit_cpu_seconds']:.1f}",
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def insert_table(page, results):
    """Return the page with the table of the results between its marks."""
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{table(results['rows'])}\n{results['machine']}\n{END}{tail}"


def machine():
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "scikit-learn", "torch"))
    return (
        f"Python {platform.python_version()}, {packages}, {platform.machine()}, one thread, {time.strftime('%Y-%m')}."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=QUANTIZERS, default=list(QUANTIZERS), metavar="NAME")
    parser.add_argument("--table", action="store_true", help="measure nothing, write the table into the page again")
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": []}
    if not arguments.table and "SEMID_DATA" not in os.environ:
        parser.error("SEMID_DATA is not set: expected the folder of the data sets. Set it, or pass --table.")
    if not arguments.table:
        results["machine"] = machine()
        for data_set in DATA_SETS:
            views = load(Path(os.environ["SEMID_DATA"]) / data_set)
            for name in arguments.only:
                with threadpool_limits(1):
                    rows = measure(name, *views)
                kept = [r for r in results["rows"] if (r["data_set"], r["quantizer"]) != (data_set, name)]
                results["rows"] = [*kept, *({"data_set": data_set} | row for row in rows)]
                print(f"{data_set}, {name}: {rows[0]['fit_cpu_seconds']:.1f} CPU s")
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(insert_table(PAGE.read_text(), results))


if __name__ == "__main__":
    sys.exit(main())
