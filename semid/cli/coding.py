"""``semid encode``, ``resolve`` and ``trie``: from a quantizer and embeddings to codes, and from codes to a trie."""

import warnings
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import semid
from semid.cli.files import (
    check_codes_file,
    check_free,
    code_facts,
    load_codes,
    load_quantizer,
    print_facts,
    save_codes,
)
from semid.cli.options import Embeddings, Json, Model, Out, Overwrite, View, parse_sources
from semid.errors import InvalidValueError

__all__ = ["Policy", "encode", "resolve", "trie"]


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
    beam: Annotated[int, typer.Option(help="Width of the search; wider is slower and nearer.")] = 1,
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
    policy: Annotated[Policy, typer.Option(help="nearest: least distortion; suffix: one more level.")] = Policy.NEAREST,
    codes: Annotated[Path | None, typer.Option(help="Codes to start from; default: encode the embeddings.")] = None,
    taken: Annotated[Path | None, typer.Option(help="Published codes of other items, which must not move.")] = None,
    max_level_moved: Annotated[
        int | None, typer.Option(help="How many levels, from the last, may change; default: all.")
    ] = None,
    json_output: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Write codes that no two items share."""
    X = parse_sources(embeddings, view)
    check_codes_file(out, X, overwrite=overwrite)
    start, published = (None if path is None else load_codes(path) for path in (codes, taken))
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


def trie(
    source: Annotated[
        Path, typer.Argument(metavar="CODES", help="What resolve or encode wrote, or the folder of a catalogue.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write, for semid.Trie.load.")],
    view: Annotated[
        str | None, typer.Option("--view", metavar="NAME", help="Which view's codes, where there are several.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that fit wrote: gives the codebook sizes.")
    ] = None,
    json_output: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Build the trie of unique codes, over which a model decodes.

    Without --model the codebook of each level is taken to end at its largest code; a catalogue knows its codebooks.
    """
    check_free(out, overwrite=overwrite)
    if out.is_dir():
        raise InvalidValueError(f"{out} cannot be written: expected a file, got a folder. Choose another name.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        built = _catalogue_trie(source, view, model) if source.is_dir() else _codes_trie(source, view, model)
    for warning in caught:
        typer.echo(f"semid: warning: {warning.message}", err=True)
    built.save(out)
    facts = {"out": str(out), "n_items": built.n_items, "codebook_sizes": built.codebook_sizes, "nbytes": built.nbytes}
    print_facts(facts, f"{out}: {built!r}", as_json=json_output)


def _catalogue_trie(folder: Path, view: str | None, model: Path | None) -> Any:
    if model is not None:
        raise typer.BadParameter(
            f"--model is not needed: expected none with a catalogue, which knows its codebooks, got {model}. "
            "Leave it out."
        )
    return semid.SemanticIds.from_pretrained(folder).trie(view)


def _codes_trie(path: Path, view: str | None, model: Path | None) -> Any:
    codes = load_codes(path)
    if isinstance(codes, Mapping):
        if view is None and len(codes) == 1:
            view = next(iter(codes))
        if view is None or view not in codes:
            raise InvalidValueError(
                f"--view is unknown: expected one of {', '.join(codes)}, got {view}. A trie has the codes of one view."
            )
        codes = codes[view]
    elif view is not None:
        raise InvalidValueError(f"--view is unknown: expected none, for {path} has no views, got {view}. Leave it out.")
    sizes = None
    if model is not None:
        sizes = load_quantizer(model).codebook_sizes
        if codes.ndim == 2 and codes.shape[1] == len(sizes) + 1:  # the level of resolve(policy="suffix")
            sizes = (*sizes, int(codes[:, -1].max(initial=0)) + 1)
    return semid.Trie.from_codes(codes, codebook_sizes=sizes)
