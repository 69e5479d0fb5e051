"""``semid trie``: from codes or a catalogue to the trie that a model decodes over."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import semid
from semid.cli.files import check_file, load_codes, load_quantizer, print_facts
from semid.cli.options import Json, Overwrite
from semid.errors import InvalidValueError

__all__ = ["trie", "trie_builder"]


def trie(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CODES",
            help="Codes: .npy, .npz, .parquet or .safetensors; or the folder of a catalogue.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write, for semid.Trie.load.")],
    view: Annotated[
        str | None, typer.Option("--view", metavar="NAME", help="The view to take, if there are several.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that fit wrote; it knows the codebook sizes.")
    ] = None,
    json_output: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Build the trie of unique codes, over which a model decodes.

    Without --model, the size of each codebook is its largest code plus one. A catalogue knows its codebook sizes.
    """
    check_file(out, overwrite=overwrite)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        built = _load_trie(source, view, model)
    for warning in caught:
        typer.echo(f"semid: warning: {warning.message}", err=True)
    built.save(out)
    facts = {"out": str(out), "n_items": built.n_items, "codebook_sizes": built.codebook_sizes, "nbytes": built.nbytes}
    print_facts(facts, f"{out}: {built!r}", as_json=json_output)


def _load_trie(source: Path, view: str | None, model: Path | None) -> semid.Trie:
    if not source.is_dir():
        return trie_builder(source, view, model)()
    if model is not None:
        raise typer.BadParameter(
            f"--model does not apply to a catalogue, which knows its codebook sizes: expected none, got {model}. "
            "Leave it out."
        )
    return semid.SemanticIds.from_pretrained(source).trie(view)  # it carries the catalogue's fingerprint


def trie_builder(source: Path, view: str | None, model: Path | None = None) -> Callable[[], semid.Trie]:
    """Read the codes of a file or of a catalogue; return a function that builds their trie anew at each call."""
    if source.is_dir():
        catalogue = semid.SemanticIds.from_pretrained(source)
        codes: Any = catalogue.taken(view, retired=False)
        sizes: tuple[int, ...] | None = catalogue.trie(view).codebook_sizes
    else:
        codes, sizes = _codes_and_sizes(source, view, model)
    return lambda: semid.Trie.from_codes(codes, codebook_sizes=sizes)


def _codes_and_sizes(path: Path, view: str | None, model: Path | None) -> tuple[Any, tuple[int, ...] | None]:
    codes = load_codes(path)
    if isinstance(codes, Mapping):
        if view is None and len(codes) == 1:
            view = next(iter(codes))
        if view is None or view not in codes:
            wrong, got = ("missing", "none") if view is None else ("unknown", view)
            raise InvalidValueError(
                f"--view is {wrong}: expected one of {', '.join(codes)}, got {got}. A trie holds the codes of one view."
            )
        codes = codes[view]
    elif view is not None:
        raise InvalidValueError(
            f"--view does not apply: expected none, because {path} has no views, got {view}. Leave it out."
        )
    sizes = None
    if model is not None:
        sizes = load_quantizer(model).codebook_sizes
        if codes.ndim == 2 and codes.shape[1] == len(sizes) + 1:  # the level of resolve(policy="suffix")
            sizes = (*sizes, int(codes[:, -1].max(initial=0)) + 1)
    return codes, sizes
