"""``semid report`` and ``semid info``: how good codes are, and what this installation can do."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

import semid
from semid.cli.files import load_codes, load_labels, load_quantizer, print_facts
from semid.cli.options import Embeddings, Json, View, parse_sources

__all__ = ["info", "report"]

# Package -> the extra of semid that installs it; "" for what semid always needs.
PACKAGES = {
    "numpy": "", "scipy": "", "scikit-learn": "", "numba": "", "marisa-trie": "", "safetensors": "", "torch": "",
    "transformers": "", "pyarrow": "data", "matplotlib": "plot",
}  # fmt: skip


def report(
    embeddings: Embeddings = None,
    codes: Annotated[Path, typer.Argument(metavar="codes.npy", help="What encode or resolve wrote.")] = ...,  # type: ignore[assignment]
    view: View = None,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that fit wrote; adds distortion and neighbor recall.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One label per item, each on a line; adds prefix purity.")
    ] = None,
    n_neighbors: Annotated[int, typer.Option(help="Neighbors per item in the neighbor recall.")] = 10,
    sample: Annotated[int, typer.Option(help="Number of items whose neighbors are compared.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that sample.")] = 0,
    json_output: Json = False,
) -> None:
    """Print collisions, codebook use, distortion, recall and purity."""
    X = parse_sources(embeddings, view)
    measured = semid.report(
        X,
        load_codes(codes, X),
        None if model is None else load_quantizer(model, X),
        labels=None if labels is None else load_labels(labels),
        n_neighbors=n_neighbors,
        sample=sample,
        seed=seed,
    )
    print_facts(measured.to_dict(), str(measured), as_json=json_output)


def info(json_output: Json = False) -> None:
    """Print versions, and which back end is in use and why."""
    from semid.kernels import active, available

    facts: dict[str, Any] = {
        "semid": semid.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "backend": active(),
        "missing_backends": {name: reason for name, reason in available().items() if reason},
    }
    if json_output:
        print_facts(facts, "", as_json=True)
        return
    typer.echo(f"semid {facts['semid']}, Python {facts['python']}, {facts['machine']}\n")
    for name, found in facts["packages"].items():
        typer.echo(f"{name:13} {found or _missing(name)}")
    typer.echo("")
    semid.show_backends()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _missing(package: str) -> str:
    extra = PACKAGES[package]
    return f"missing: pip install 'semid[{extra}]'" if extra else f"missing: pip install {package}"
