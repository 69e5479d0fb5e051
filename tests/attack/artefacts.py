"""What semid saves, in two versions each that differ in every array: how to save it, and what a load must give."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

import semid
from semid.cli import app
from semid.cli.files import load_quantizer
from semid.quantizers.networks.options import Recipe, Training

DIM, N_ITEMS = 6, 60


@dataclass
class Artefact:
    """One kind of saved thing.

    Parameters
    ----------
    kind : str
        Its row in the tables.
    name : str
    versions : list
        Two objects, or arguments of `save`.
    save : function of (version, path)
    load : function of path
        Returns bytes that differ between the versions.
    is_folder : bool
    """

    kind: str
    name: str
    versions: list[Any]
    save: Callable[[Any, Path], None]
    load: Callable[[Path], bytes]
    is_folder: bool = True


def embeddings(version):
    return np.random.default_rng(version).standard_normal((N_ITEMS, DIM)).astype(np.float32) * (version + 1)


def quantizers():
    """Return the six quantizers, fitted to both versions of the embeddings."""
    views = [{"semantic": embeddings(v), "collaborative": embeddings(v + 5)} for v in (0, 1)]
    training = Training(epochs=2, device="cpu")
    both = dict(n_shared=1, n_specific=1, codebook_size=4)
    makers = [
        semid.KMeans(codebook_size=8),
        semid.ResidualKMeans(n_levels=2, codebook_size=4),
        semid.ProductKMeans(n_levels=2, codebook_size=4, rotation="opq"),
        semid.RQVAE(n_levels=2, codebook_size=4, hidden_sizes=(8,), latent_dim=4, training=training),
        semid.SharedSpecificKMeans(**both),
        semid.SharedSpecificRQVAE(**both, hidden_sizes=(8,), latent_dim=4, recipe=Recipe(training=training)),
    ]
    for one in makers:
        data = views if hasattr(one, "views") else [embeddings(v) for v in (0, 1)]
        yield type(one).__name__, [copy.deepcopy(one).fit(X) for X in data], data[0]


def saved_things():
    """Return every kind of artefact."""
    found = []
    for name, fitted, X in quantizers():
        found.append(Artefact("quantizers", name, fitted, save_folder, lambda path, X=X: quantizer_bytes(path, X)))
    codes = [np.unique(np.random.default_rng(v).integers(0, 8, (70, 3)), axis=0)[:N_ITEMS] for v in (0, 1)]
    names = [[f"item-{v}-{i}" for i in range(N_ITEMS)] for v in (0, 1)]
    catalogues = [semid.SemanticIds(names[v], codes[v], codebook_sizes=(8, 8, 8)) for v in (0, 1)]
    vocabularies = [
        semid.SidVocabulary.from_token_ids([range(at + 8 * i, at + 8 * i + 8) for i in range(3)], eos_token_id=1)
        for at in (10, 50)
    ]
    tries = [one.trie() for one in catalogues]
    found += [
        Artefact("catalogue", "SemanticIds", catalogues, save_folder, catalogue_bytes),
        Artefact("vocabulary", "SidVocabulary", vocabularies, save_folder, vocabulary_bytes),
        Artefact("trie", "Trie", tries, lambda trie, path: trie.save(path), trie_bytes, is_folder=False),
    ]
    return found


def save_folder(thing, path):
    thing.save_pretrained(path)


def quantizer_bytes(path, X):
    quantizer = load_quantizer(path)
    codes = quantizer.encode(X)
    return as_bytes([codes, quantizer.decode(codes)])


def catalogue_bytes(path, **options):
    catalogue = semid.SemanticIds.from_pretrained(path, **options)
    ids = catalogue.items_at(np.arange(len(catalogue)))
    return as_bytes([catalogue.codes_of(ids), np.array(ids)])


def vocabulary_bytes(path):
    vocabulary = semid.SidVocabulary.from_pretrained(path)
    return as_bytes(
        [np.asarray(one) for one in vocabulary.level_tokens]
        + [vocabulary.to_tokens(np.zeros((1, vocabulary.n_levels), int))]
    )


def trie_bytes(path, **options):
    trie = semid.Trie.load(path, **options)
    return as_bytes([np.asarray(one) for one in trie._levels] + [trie.codes_of(np.arange(trie.n_items))])


def as_bytes(arrays):
    """Return arrays, or dicts of arrays, as bytes."""
    flat = [one for array in arrays for one in (array.values() if isinstance(array, dict) else [array])]
    return b"|".join(np.ascontiguousarray(one).tobytes() for one in flat)


def run_command(line):
    """Run the command line in this process, in silence; raise unless it succeeds."""
    result = CliRunner().invoke(app, line.split(), prog_name="semid")
    if result.exit_code:
        raise RuntimeError(f"semid {line}: {result.stderr or result.exception}")


def command_lines(folder):
    """Return the commands that write something, as artefacts; their inputs are written into `folder`."""
    for v in (0, 1):
        np.save(folder / f"X{v}.npy", embeddings(v))
        codes = np.unique(np.random.default_rng(v).integers(0, 8, (70, 3)), axis=0)[:N_ITEMS]
        np.save(folder / f"ids{v}.npy", codes)
        semid.ResidualKMeans(n_levels=2, codebook_size=8, seed=0).fit(embeddings(v)).save_pretrained(folder / f"q{v}")

    def command(line):
        def save(version, path):
            run_command(f"{line.format(folder=folder, v=version)} --out {path} --overwrite")

        return save

    def array_bytes(path):
        return np.load(path).tobytes()

    lines = {
        "fit": "fit {folder}/X{v}.npy --levels 2 --codebook-size 8",
        "encode": "encode {folder}/q{v} {folder}/X{v}.npy",
        "resolve": "resolve {folder}/q{v} {folder}/X{v}.npy",
        "trie": "trie {folder}/ids{v}.npy",
    }
    X = embeddings(0)
    loads = {"fit": lambda path: quantizer_bytes(path, X), "trie": trie_bytes}
    return [
        Artefact("command line", name, [0, 1], command(line), loads.get(name, array_bytes), is_folder=name == "fit")
        for name, line in lines.items()
    ]
