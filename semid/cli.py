"""The command line: embeddings in files to codes in files, each command one call of the library."""

import json
import time
import zipfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

import semid
from semid.errors import FormatError, InvalidTypeError, InvalidValueError, SemidError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    CodeArray = npt.NDArray[np.unsignedinteger[Any]]
    Codes = CodeArray | Mapping[str, CodeArray]

__all__ = ["app", "main"]

Sources = str | dict[str, str]
# What a saved folder may hold, by the name in its config.json.
QUANTIZERS = ("KMeans", "ProductKMeans", "ResidualKMeans", "RQVAE", "SharedSpecificKMeans", "SharedSpecificRQVAE")


class Algorithm(StrEnum):
    """The quantizers that ``fit`` knows."""

    RESIDUAL_KMEANS = "residual-kmeans"
    SHARED_SPECIFIC_KMEANS = "shared-specific-kmeans"


class Policy(StrEnum):
    """The policies that ``resolve`` knows."""

    NEAREST = "nearest"
    SUFFIX = "suffix"


class Commands(typer.core.TyperGroup):
    """Commands that report what is wrong with files and arguments in one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 1 after a SemidError or OSError."""
        from semid._progress import show_progress

        try:
            with show_progress():
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # typer ends quietly when the reader of a pipe has gone
        except (SemidError, OSError) as error:
            typer.echo(f"semid: {error}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Semantic IDs: fit a quantizer on item embeddings, encode items, make their IDs unique, look at the result.",
)

Embeddings = Annotated[
    list[str],
    typer.Argument(metavar="X.npy | VIEW=X.npy ...", help="Embeddings (n_items, dim); several views as VIEW=FILE."),
]
Model = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that fit wrote.")]
Out = Annotated[Path, typer.Option("--out", help="File to write: .npy, or .npz with one array per view.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")]


def main() -> None:
    """Run the ``semid`` command."""
    app(prog_name="semid")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"semid {semid.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def fit(
    embeddings: Embeddings,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")],
    algorithm: Annotated[
        Algorithm | None,
        typer.Option(help="Default: residual-kmeans for one file, shared-specific-kmeans for several views."),
    ] = None,
    levels: Annotated[int | None, typer.Option(help="Levels of residual-kmeans.  [default: 3]")] = None,
    shared: Annotated[int | None, typer.Option(help="Levels that all views share.  [default: 1]")] = None,
    specific: Annotated[int | None, typer.Option(help="Levels of each view's own.  [default: 2]")] = None,
    codebook_size: Annotated[
        str, typer.Option(help="Codes per level: one number, or one per level as 64,256.")
    ] = "256",
    seed: Annotated[int, typer.Option(help="Same seed, same codebooks.")] = 0,
    json_output: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Learn codebooks from embeddings."""
    X = _sources(embeddings)
    views = isinstance(X, Mapping)
    expected = Algorithm.SHARED_SPECIFIC_KMEANS if views else Algorithm.RESIDUAL_KMEANS
    if algorithm not in {None, expected}:
        given = "several views" if views else "one file"
        raise typer.BadParameter(
            f"expected {expected} for {given}, got {algorithm}. Give embeddings of the other kind."
        )
    unused = {"--levels": levels} if views else {"--shared": shared, "--specific": specific}
    for option, value in unused.items():
        if value is not None:
            raise typer.BadParameter(
                f"{option} is not an option of {expected}: expected none, got {value}. Leave it out."
            )
    sizes = _codebook_size(codebook_size)
    _check_free(out, overwrite=overwrite)
    started = time.perf_counter()
    quantizer: Any
    if isinstance(X, Mapping):
        quantizer = semid.SharedSpecificKMeans(
            n_shared=1 if shared is None else shared,
            n_specific=2 if specific is None else specific,
            codebook_size=sizes,
            views=tuple(X),
            seed=seed,
            progress=True,
        )
    else:
        quantizer = semid.ResidualKMeans(
            n_levels=3 if levels is None else levels, codebook_size=sizes, seed=seed, progress=True
        )
    quantizer.fit(X)
    quantizer.save_pretrained(out)
    seconds = time.perf_counter() - started
    facts = {"class": type(quantizer).__name__, "codebook_sizes": list(quantizer.codebook_sizes), "seconds": seconds}
    text = f"{out}: {facts['class']} of {' x '.join(map(str, quantizer.codebook_sizes))} codes, {seconds:.1f} s"
    _print(facts | {"out": str(out)}, text, as_json=json_output)


@app.command()
def encode(
    model: Model,
    embeddings: Embeddings,
    out: Out,
    beam: Annotated[int, typer.Option(help="Width of the search; wider is slower and nearer.")] = 1,
    json_output: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the codes of embeddings."""
    X = _sources(embeddings)
    _check_codes_file(out, X, overwrite=overwrite)
    codes = _load_quantizer(model, X).encode(X, beam=beam)
    _save_codes(codes, out)
    facts = _facts(codes, out)
    _print(facts, f"{out}: codes of {facts['n_items']:,} items", as_json=json_output)


@app.command()
def resolve(
    model: Model,
    embeddings: Embeddings,
    out: Out,
    policy: Annotated[Policy, typer.Option(help="nearest: least distortion; suffix: one more level.")] = Policy.NEAREST,
    codes: Annotated[Path | None, typer.Option(help="Codes to start from; default: encode the embeddings.")] = None,
    json_output: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Write codes that no two items share."""
    X = _sources(embeddings)
    _check_codes_file(out, X, overwrite=overwrite)
    start = None if codes is None else _load_codes(codes)
    result = semid.resolve(_load_quantizer(model, X), X, start, policy=policy.value)
    _save_codes(result.codes, out)
    names = (
        "n_moved", "n_collisions_before", "n_collisions_after", "distortion_before", "distortion_after",
        "optimality_gap", "codebook_sizes",
    )  # fmt: skip
    facts = _facts(result.codes, out) | {name: getattr(result, name) for name in names}
    _print(facts, f"{out}: {result!r}", as_json=json_output)


@app.command()
def report(
    embeddings: Embeddings,
    codes: Annotated[Path, typer.Argument(metavar="codes.npy", help="What encode or resolve wrote.")],
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that fit wrote: adds distortion and neighbor recall.")
    ] = None,
    n_neighbors: Annotated[int, typer.Option(help="Depth of the neighbor recall.")] = 10,
    sample: Annotated[int, typer.Option(help="Items whose neighbors are compared.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of that sample.")] = 0,
    json_output: Json = False,
) -> None:
    """Print collisions, use of the codebooks, distortion and neighbor recall."""
    X = _sources(embeddings)
    quantizer = None if model is None else _load_quantizer(model, X)
    measured = semid.report(X, _load_codes(codes), quantizer, n_neighbors=n_neighbors, sample=sample, seed=seed)
    _print(measured.to_dict(), str(measured), as_json=json_output)


def _sources(embeddings: list[str]) -> Sources:
    """Return the one file, or view -> file; a usage error where the two are mixed or a view comes twice."""
    named = dict(_split(text) for text in embeddings)
    if None not in named and len(named) == len(embeddings):
        return {str(view): file for view, file in named.items()}
    if len(embeddings) == 1:
        return embeddings[0]
    raise typer.BadParameter(
        f"embeddings are ambiguous: expected one file, or several as VIEW=FILE with different views, got "
        f"{' '.join(embeddings)}. Name each view once."
    )


def _split(text: str) -> tuple[str | None, str]:
    view, equals, file = text.partition("=")
    return (view, file) if equals and view.isidentifier() else (None, text)


def _codebook_size(text: str) -> int | list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"--codebook-size is not a number: expected one as 256, or one per level as 64,256, got {text}. Correct it."
        ) from error
    return sizes[0] if len(sizes) == 1 else sizes


def _check_free(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise InvalidValueError(f"{out} exists: expected a new name. Choose another one or pass --overwrite.")


def _check_codes_file(out: Path, X: Sources, *, overwrite: bool) -> None:
    suffix, what = (".npz", "several views") if isinstance(X, Mapping) else (".npy", "one file")
    if out.suffix != suffix:
        raise typer.BadParameter(f"--out has a wrong ending: expected {suffix} for {what}, got {out}. Rename it.")
    _check_free(out, overwrite=overwrite)
    if out.is_dir():
        raise InvalidValueError(f"{out} cannot be written: expected a file, got a folder. Choose another name.")


def _load_quantizer(folder: Path, X: Sources) -> Any:
    """Load whichever quantizer a folder holds, if it takes embeddings such as `X`."""
    from semid.io.persistence import saved_class

    name = saved_class(folder)
    if name not in QUANTIZERS:
        raise FormatError(
            f"{folder} holds no quantizer: expected one of {', '.join(QUANTIZERS)}, got {name}. Check the path."
        )
    quantizer = getattr(semid, name).from_pretrained(folder)
    expected = " ".join(f"{view}=FILE" for view in quantizer.views) if hasattr(quantizer, "views") else "one file"
    given = " ".join(f"{view}=FILE" for view in X) if isinstance(X, Mapping) else "one file"
    if hasattr(quantizer, "views") != isinstance(X, Mapping):
        raise InvalidTypeError(f"{folder} takes other embeddings: expected {expected}, got {given}. Give those.")
    return quantizer


def _load_codes(path: Path) -> "Codes":
    import numpy as np

    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(
            f"{path} cannot be read: expected codes as .npy or .npz, got something else ({error}). Check the path."
        ) from error


def _save_codes(codes: "Codes", out: Path) -> None:
    import numpy as np

    from semid.io.persistence import fresh_path

    with fresh_path(out) as fresh:
        if not isinstance(codes, Mapping):
            np.save(fresh, codes)
            return
        # numpy.savez takes the names as keyword arguments: a view could not be called "file".
        with zipfile.ZipFile(fresh, "w") as archive:
            for view, table in codes.items():
                with archive.open(f"{view}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(table), allow_pickle=False)


def _facts(codes: "Codes", out: Path) -> dict[str, Any]:
    tables = list(codes.values()) if isinstance(codes, Mapping) else [codes]
    facts: dict[str, Any] = {"out": str(out), "n_items": len(tables[0]), "n_levels": tables[0].shape[1]}
    return facts | ({"views": list(codes)} if isinstance(codes, Mapping) else {})


def _print(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(facts) if as_json else text)
