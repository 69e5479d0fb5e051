"""The command line: embeddings in files to codes in files; each command calls the library once."""

from semid.cli import bench, encode_resolve, fit, report_info, trie
from semid.cli.app import app, main

__all__ = ["app", "main"]

for command in (
    fit.fit, encode_resolve.encode, encode_resolve.resolve, trie.trie, report_info.report, bench.bench,
    report_info.info,
):  # fmt: skip
    app.command()(command)
