"""``semid trie``: from codes or a catalogue to the trie that a model decodes over."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import semid
from semid.cli.codes import load_codes
from semid.cli.files import check_free, load_quantizer, print_facts
from semid.cli.options import Json, Overwrite
from semid.errors import InvalidValueError

__all__ = ["load_trie", "trie", "trie_builder"]


def trie(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CODES",
            help="Codes: .npy, .npz, .parquet, .safetensors; or a catalogue's folder.",
        ),
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
        built = load_trie(source, view, model)
    for warning in caught:
        typer.echo(f"semid: warning: {warning.message}", err=True)
    built.save(out)
    facts = {"out": str(out), "n_items": built.n_items, "codebook_sizes": built.codebook_sizes, "nbytes": built.nbytes}
    print_facts(facts, f"{out}: {built!r}", as_json=json_output)


def load_trie(source: Path, view: str | None, model: Path | None) -> semid.Trie:
    """Build the trie of codes in a file, or of a catalogue in a folder."""
    if not source.is_dir():
        return trie_builder(source, view, model)()
    if model is not None:
        raise typer.BadParameter(
            f"--model is not needed: expected none with a catalogue, which knows its codebooks, got {model}. "
            "Leave it out."
        )
    return semid.SemanticIds.from_pretrained(source).trie(view)


def trie_builder(source: Path, view: str | None, model: Path | None = None) -> Callable[[], semid.Trie]:
    """Read the codes of a file or of a catalogue, and return what builds a trie of them, whenever it is called."""
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
    return codes, sizes
