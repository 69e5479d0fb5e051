"""The command line: embeddings in files to codes in files, each command one call of the library."""

from semid.cli.app import app, main
from semid.cli.coding import encode, resolve
from semid.cli.fitting import fit
from semid.cli.looking import info, report
from semid.cli.timing import bench
from semid.cli.tries import trie

__all__ = ["app", "main"]

for command in (fit, encode, resolve, trie, report, bench, info):
    app.command()(command)
