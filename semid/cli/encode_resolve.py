"""``semid encode`` and ``semid resolve``: from a quantizer and embeddings to codes."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import semid
from semid.cli.files import check_codes_file, code_facts, load_codes, load_quantizer, print_facts, save_codes
from semid.cli.options import Embeddings, Json, Model, Out, Overwrite, View, parse_sources

__all__ = ["Policy", "encode", "resolve"]


class Policy(StrEnum):
    """The policies that ``resolve`` knows."""

    NEAREST = "nearest"
    SUFFIX = "suffix"
    SINKHORN = "sinkhorn"


def encode(
    model: Model,
    embeddings: Embeddings = None,
    *,
    out: Out,
    view: View = None,
    beam: Annotated[int, typer.Option(help="Width of the search; a wider one is slower and finds nearer codes.")] = 1,
    json_output: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the codes of embeddings."""
    X = parse_sources(embeddings, view)
    check_codes_file(out, X, overwrite=overwrite)
    codes = load_quantizer(model, X).encode(X, beam=beam)
    save_codes(codes, out)
    facts = code_facts(codes, out)
    print_facts(facts, f"{out}: codes of {facts['n_items']:,} items", as_json=json_output)


def resolve(
    model: Model,
    embeddings: Embeddings = None,
    *,
    out: Out,
    view: View = None,
    policy: Annotated[
        Policy,
        typer.Option(help="nearest: least distortion; suffix: one more level; sinkhorn: GenSAR's published repair."),
    ] = Policy.NEAREST,
    codes: Annotated[Path | None, typer.Option(help="Codes to start from; default: encode the embeddings.")] = None,
    taken: Annotated[Path | None, typer.Option(help="Published codes of other items; they do not move.")] = None,
    max_level_moved: Annotated[
        int | None, typer.Option(help="How many levels may change, counted from the last; default: all.")
    ] = None,
    json_output: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Write codes that no two items share."""
    X = parse_sources(embeddings, view)
    check_codes_file(out, X, overwrite=overwrite)
    start, published = (None if path is None else load_codes(path, X) for path in (codes, taken))
    result = semid.resolve(
        load_quantizer(model, X), X, start, policy=policy.value, taken=published, max_level_moved=max_level_moved
    )
    save_codes(result.codes, out)
    names = (
        "n_moved", "n_collisions_before", "n_collisions_after", "distortion_before", "distortion_after",
        "optimality_gap", "codebook_sizes",
    )  # fmt: skip
    facts = code_facts(result.codes, out) | {name: getattr(result, name) for name in names}
    print_facts(facts, f"{out}: {result!r}", as_json=json_output)
