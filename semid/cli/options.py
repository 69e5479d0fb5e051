"""Arguments that commands share, and how embeddings are named on the command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Embeddings", "Json", "Model", "Out", "Overwrite", "Sources", "View", "one_or_several", "parse_sources"]

Sources = str | dict[str, str]

Embeddings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[X.npy | VIEW=X.npy ...]",
        show_default=False,
        help="Embeddings of shape (n_items, dim): .npy, or .parquet[::column]. Name several views as VIEW=FILE.",
    ),
]
View = Annotated[
    list[str] | None,
    typer.Option("--view", metavar="NAME=FILE", help="One view of the items, instead of X.npy; repeat for each view."),
]
Model = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that fit wrote.")]
Out = Annotated[Path, typer.Option("--out", help="File to write: .npy, or .npz with one array per view.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file or folder.")]


def parse_sources(embeddings: list[str] | None, views: list[str] | None) -> Sources:
    """Return the one file, or view -> file; a usage error if both are given, or a view twice."""
    unnamed = embeddings or []
    named = [_split_view(text) for text in views or []]
    given = [*(_split(text) for text in unnamed), *named]
    if not given:
        raise typer.BadParameter(
            "embeddings are missing: expected one file, or several as VIEW=FILE, got none. Name a .npy or .parquet "
            "file."
        )
    known = {view: file for view, file in given if view is not None}
    if len(known) == len(given):
        return known
    if len(given) == 1:
        return unnamed[0]
    raise typer.BadParameter(
        f"embeddings are ambiguous: expected one file, or several as VIEW=FILE with different views, got "
        f"{' '.join([*unnamed, *(views or [])])}. Name each view once."
    )


def one_or_several(X: Sources) -> str:
    """Return how embeddings were given, for messages."""
    return " ".join(f"{view}=FILE" for view in X) if isinstance(X, Mapping) else "one file"


def _split(text: str) -> tuple[str | None, str]:
    view, equals, file = text.partition("=")
    return (view, file) if equals and view.isidentifier() else (None, text)


def _split_view(text: str) -> tuple[str, str]:
    view, equals, file = text.partition("=")
    if not (view and equals and file):
        raise typer.BadParameter(f"--view has no name or no file: expected NAME=FILE, got {text!r}. Give both.")
    return view, file
