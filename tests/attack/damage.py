"""Saved files that are cut off, or of which one bit is turned: refused, or unchanged in every value."""

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas

import semid
from attack.artefacts import Artefact, as_bytes, embeddings, saved_things
from attack.readers import in_a_process
from attack.row import Row
from semid.cli.files import load_codes, load_quantizer, save_codes
from semid.errors import SemidError
from semid.io.persistence import write_tensors
from semid.quantizers import Training
from semid.quantizers.networks.options import Recipe

TITLE = "Damaged files"
TRIES = 1000  # of each artefact and kind of damage
FAULTS = ("crash", "silently changed", "other error")
PART = 100
# Formats of others, without a checksum: a turned bit may be another number.
PLAIN = "plain data"


def attack(scale):
    """Damage every artefact in both ways."""
    n = max(1, round(TRIES * scale))
    with tempfile.TemporaryDirectory() as folder:
        things = [with_knowledge(thing) for thing in saved_things()] + plain_files() + checkpoints()
        return [damaged(thing, kind, n, Path(folder)) for thing in things for kind in ("cut off", "one bit turned")]


READERS = {
    "quantizers": load_quantizer,
    "catalogue": semid.SemanticIds.from_pretrained,
    "vocabulary": semid.SidVocabulary.from_pretrained,
    "trie": semid.Trie.load,
}
KNOWLEDGE = (
    "fingerprint", "generation", "history", "last_reuse", "views", "codebook_sizes", "n_ranks", "catalogue",
    "eos_token_id", "prefixes",
)  # fmt: skip


def with_knowledge(thing):
    """Let the load of an artefact also return what the object knows besides its arrays."""

    def load(path):
        found = READERS[thing.kind](path)
        known = {name: getattr(found, name, None) for name in KNOWLEDGE}
        if thing.kind == "quantizers":
            known["parameters"] = found.get_params()
        return thing.load(path) + repr(known).encode()

    return replace(thing, load=load)


def plain_files():
    """Return files of codes in the formats of others."""
    codes = np.random.default_rng(0).integers(0, 8, (300, 3)).astype(np.uint8)

    def write(version, path):
        save_codes({"a": codes, "b": codes} if path.suffix == ".npz" else codes, path)

    def write_parquet(version, path):
        pandas.DataFrame({"item": [f"i{at}" for at in range(300)], "codes": codes.tolist()}).to_parquet(path)

    def write_levels(version, path):
        distinct = np.unique(codes, axis=0)
        semid.SemanticIds(np.arange(len(distinct)), distinct, codebook_sizes=(8, 8, 8)).to_parquet(path)

    def write_safetensors(version, path):
        write_tensors(path, {"codes": codes})

    def load(path):
        return as_bytes([load_codes(path)])

    return [
        Artefact(PLAIN, name, [None], save, load, is_folder=False)
        for name, save in (
            (".npy", write),
            (".npz", write),
            (".safetensors of codes", write_safetensors),
            (".parquet, a column of lists", write_parquet),
            (".parquet, a column per level", write_levels),
        )
    ]


def checkpoints():
    """Return the files from which interrupted fits go on."""
    sizes = dict(codebook_size=4, hidden_sizes=(8,), latent_dim=4)
    training = Training(epochs=2, device="cpu")

    def one_view():
        return semid.RQVAE(n_levels=2, training=training, **sizes)

    def two_views():
        return semid.SharedSpecificRQVAE(n_shared=1, n_specific=1, recipe=Recipe(training=training), **sizes)

    views = {"semantic": embeddings(0), "collaborative": embeddings(5)}
    return [
        checkpoint("checkpoint of an RQVAE", one_view, embeddings(0)),
        checkpoint("checkpoint of a SharedSpecificRQVAE", two_views, views),
    ]


def checkpoint(name, make, X):
    """Return the checkpoint of one network."""

    def save(version, path):
        make().fit(X, checkpoint=path)

    def load(path):
        found = make().fit(X, checkpoint=path)
        codes = found.encode(X)
        return as_bytes([codes, found.decode(codes)])

    return Artefact("checkpoint", name, [None], save, load, is_folder=False)


def damaged(thing, kind, n, folder):
    """Damage an artefact `n` times."""
    row = Row(f"{thing.name}, {kind}", 0, dict.fromkeys(FAULTS, 0))
    if thing.kind == PLAIN:
        row.faults.pop("silently changed")
        row.figures["loaded with another value (no checksum in this format)"] = 0
    ending = thing.name.split()[0].rstrip(",") if thing.kind == PLAIN else ".safetensors"
    whole = folder / f"whole{ending}"
    thing.save(thing.versions[0], whole)
    expected = thing.load(whole)
    files = sorted(one for one in whole.rglob("*") if one.suffix != ".md") if whole.is_dir() else [whole]
    for first in range(0, n, PART):
        seeds = range(first, min(first + PART, n))
        found = in_a_process(lambda seeds=seeds: [outcome(thing, kind, seed, whole, files, expected) for seed in seeds])
        if found is None:  # again, one by one, to know which
            found = [
                in_a_process(lambda seed=seed: outcome(thing, kind, seed, whole, files, expected)) or ("crash", "")
                for seed in seeds
            ]
        row.tried += len(seeds)
        for seed, (what, example) in zip(seeds, found, strict=True):
            if what == "silently changed" and thing.kind == PLAIN:
                row.figures["loaded with another value (no checksum in this format)"] += 1
            elif what:
                row.fault(what, f"seed {seed}: {example}")
    shutil.rmtree(whole) if whole.is_dir() else whole.unlink()
    return row


def outcome(thing, kind, seed, whole, files, expected):
    """Damage a copy of one of the files and load it; return the kind of fault, if it is one, and what happened."""
    rng = random.Random(seed)
    copy = whole.with_name(f"copy-{seed}{whole.suffix}")
    if copy.exists():  # of a try that crashed
        shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
    shutil.copytree(whole, copy) if whole.is_dir() else shutil.copy(whole, copy)
    file = rng.choice(files)
    target = copy / file.relative_to(whole) if whole.is_dir() else copy
    data = bytearray(target.read_bytes())
    at = rng.randrange(len(data))
    if kind == "cut off":
        data = data[:at]
    else:
        data[at] ^= 1 << rng.randrange(8)
    target.write_bytes(data)
    try:
        return (None, "") if thing.load(copy) == expected else ("silently changed", f"{target.name}, byte {at}")
    except (SemidError, OSError):
        return None, ""
    except Exception as error:
        return "other error", f"{target.name}, byte {at}: {type(error).__name__}: {error}"
    finally:
        shutil.rmtree(copy) if copy.is_dir() else copy.unlink(missing_ok=True)
