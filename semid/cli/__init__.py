"""The command line: embeddings in files to codes in files, each command one call of the library."""

from semid.cli.app import app, main
from semid.cli.coding import encode, resolve, trie
from semid.cli.fitting import fit
from semid.cli.looking import info, report

__all__ = ["app", "main"]

for command in (fit, encode, resolve, trie, report, info):
    app.command()(command)
