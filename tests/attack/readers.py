"""Readers beside a process that replaces what they read, and readers that hold a map of a file that changes."""

import itertools
import mmap
import os
import pickle
import signal
import tempfile
import time
from pathlib import Path

import numpy as np

import semid
from attack.artefacts import catalogue_bytes, saved_things, trie_bytes
from attack.row import Row

TITLE = "Readers beside a writer"
LOADS, HOLDS = 100_000, 200
FAULTS = ("mixed", "unreadable", "crash")
# Loads of a forked reader; the next one goes on.
PART = 500


def attack(scale):
    """Load while another process saves one version after the other; then hold maps of files that change."""
    things = {thing.name: thing for thing in saved_things()}
    with tempfile.TemporaryDirectory() as folder:
        cases = [
            ("trie, mapped", things["Trie"], lambda path: trie_bytes(path, mmap=True)),
            ("trie, read", things["Trie"], trie_bytes),
            ("quantizer", things["ResidualKMeans"], things["ResidualKMeans"].load),
            ("vocabulary", things["SidVocabulary"], things["SidVocabulary"].load),
            ("catalogue", things["SemanticIds"], catalogue_bytes),
            ("catalogue, mapped", things["SemanticIds"], lambda path: catalogue_bytes(path, mmap=True, verify=False)),
        ]
        n = max(1, round(LOADS * scale / len(cases)))
        rows = [beside_a_writer(*case, n, Path(folder)) for case in cases]
        return rows + held_maps(max(1, round(HOLDS * scale)), Path(folder))


def beside_a_writer(what, thing, load, n, folder):
    """Load `n` times, in forked readers, while a forked writer replaces the artefact without a pause."""
    row = Row(f"{what}, loaded while it is replaced", 0, dict.fromkeys(FAULTS, 0))
    path = folder / f"{what.replace(', ', '-')}.safetensors"
    contents = set()
    for version in thing.versions:
        thing.save(version, path)
        contents.add(load(path))
    writer = os.fork()
    if writer == 0:
        for version in itertools.cycle(thing.versions):
            thing.save(version, path)
    try:
        seen = set()
        while row.tried < n:
            found = in_a_process(lambda: read_often(load, path, contents, min(PART, n - row.tried)))
            row.tried += min(PART, n - row.tried)
            if found is None:
                row.fault("crash", "a reader ended")
                continue
            seen |= found["seen"]
            for kind, example in found["faults"]:
                row.fault(kind, example)
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    row.figures["versions seen"] = len(seen)
    return row


def read_often(load, path, contents, n):
    """Return which of the versions were seen, and what went wrong."""
    found = {"seen": set(), "faults": []}
    known = sorted(contents)
    for _ in range(n):
        try:
            got = load(path)
        except Exception as error:
            found["faults"].append(("unreadable", f"{type(error).__name__}: {error}"))
            continue
        if got in contents:
            found["seen"].add(known.index(got))
        else:
            found["faults"].append(("mixed", "arrays of two versions"))
    return found


def in_a_process(work):
    """Return what `work` returns in a forked process, None if the process ends early."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(work(), pipe)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else None


def held_maps(n, folder):
    """Hold a mapped trie while its file changes, and ask it again."""
    rng = np.random.default_rng(0)
    codes = np.unique(rng.integers(0, 256, (30_000, 3)), axis=0)
    old = semid.Trie.from_codes(codes, codebook_sizes=(256, 256, 256))
    new = semid.Trie.from_codes(codes[::2], codebook_sizes=(256, 256, 256))
    path = folder / "held.safetensors"
    ways = {
        "replaced by `Trie.save`": lambda: new.save(path),
        "deleted": path.unlink,
        "overwritten in place by another program": lambda: overwrite(path),
        "cut off in place by another program": lambda: os.truncate(path, 4096),
    }
    rows = []
    for at, (what, change) in enumerate(ways.items()):
        is_promised = at < 2
        row = Row(f"a mapped trie whose file is {what}", 0, {"changed": 0, "crash": 0} if is_promised else {})
        counts = {"answers changed": 0, "process ended": 0}
        for _ in range(n if is_promised else max(1, n // 10)):
            old.save(path)
            same = in_a_process(lambda change=change: holds(path, change))
            row.tried += 1
            kind = "process ended" if same is None else "answers changed" if not same else None
            if kind and is_promised:
                row.fault("crash" if same is None else "changed")
            elif kind:
                counts[kind] += 1
        row.figures |= {} if is_promised else counts
        rows.append(row)
    return rows


def holds(path, change):
    """Map a trie, change its file, and tell whether all of its answers are those of a trie in memory."""
    expected = semid.Trie.load(path, mmap=False)
    held = semid.Trie.load(path, mmap=True)
    ranks = np.arange(expected.n_items)
    change()
    time.sleep(0.001)
    return bool((held.codes_of(ranks) == expected.codes_of(ranks)).all())


def overwrite(path):
    """Turn all bytes behind the header over."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        start = 8 + int.from_bytes(data[:8], "little")
        data[start:] = bytes(255 - byte for byte in data[start:])
