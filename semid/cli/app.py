"""The ``semid`` program: its name, its version, and how every command ends after an error."""

from typing import Annotated, Any

import typer
import typer.core

import semid
from semid.errors import SemidError

__all__ = ["app", "main"]

INTERRUPTED = 130


class Commands(typer.core.TyperGroup):
    """Commands that print what is wrong with files and arguments in one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 1 after a SemidError or OSError, with 130 after Ctrl-C."""
        from semid._progress import show_progress

        try:
            with show_progress():
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # typer ends quietly when the reader of a pipe has gone
        except (SemidError, OSError) as error:
            typer.echo(f"semid: {error}", err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as stopped:
            typer.echo("semid: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from stopped


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Semantic IDs: fit a quantizer on item embeddings, encode the items, make their IDs unique, measure the "
    "result, build the trie for decoding, and time it.",
    epilog="Exit codes: 0 success, 1 bad input, 2 wrong usage, 130 interrupted. To compare with other libraries, run "
    "'make bench' in a checkout.",
)


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
