"""Files that are made to harm, with a correct checksum: refused at once, with little memory, and no code is run.

A file whose contents make sense is accepted, whoever wrote it: then everything that can be asked of it is asked, and
must be what an honest file can hold.
"""

import json
import os
import pickle
import random
import shutil
import struct
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import torch

import semid
from attack.artefacts import embeddings
from attack.readers import in_a_process
from attack.row import Row
from semid.cli.files import load_codes, load_quantizer
from semid.errors import SemidError
from semid.io.batches import check_embeddings
from semid.io.persistence import checksum_of, read_tensors, write_folder, write_tensors
from semid.quantizers import Training
from semid.trie.levels import Mark
from semid.trie.storage import checksum

TITLE = "Forged files"
TRIES = 200  # of each kind
MOST_SECONDS, MOST_BYTES = 1.0, 100 << 20
FAULTS = ("accepted", "crash", "other error", "slow", "memory", "ran code")
HOME = Path(tempfile.gettempdir())
NUMBERS = (0, 1, -1, 2, 7, 63, 64, 255, 256, 2**31, 2**32, 2**40, 2**62, -(2**40), -(2**62))


def attack(scale):
    """Write forgeries of each kind and try to load them."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        originals = Originals(folder)
        for what, forge, use in originals.kinds():
            row = Row(what, 0, dict.fromkeys(FAULTS, 0))
            worst, accepted = [0.0, 0], 0
            for seed in range(max(1, round(TRIES * scale))):
                path = folder / "forged"
                target = forge(random.Random(seed), path) or path
                outcome = in_a_process(lambda target=target, use=use: judged(use, target))
                row.tried += 1
                if outcome is None:
                    row.fault("crash", f"seed {seed}")
                else:
                    kind, text, seconds, size = outcome
                    accepted += kind == "made sense"
                    worst = [max(worst[0], seconds), max(worst[1], size)]
                    for fault, found in (
                        ("accepted", kind == "accepted"),
                        ("other error", kind == "other error"),
                        ("slow", kind == "refused" and seconds > MOST_SECONDS),  # one that makes sense is used, too
                        ("memory", size > MOST_BYTES),
                        ("ran code", originals.marker.exists()),
                    ):
                        if found:
                            row.fault(fault, f"seed {seed}: {text} {seconds:.2f} s, {size >> 20} MiB")
                originals.marker.unlink(missing_ok=True)
                shutil.rmtree(path, ignore_errors=True)
                for one in folder.glob("forged*"):
                    one.unlink()
            row.figures = {"CPU seconds at most": round(worst[0], 2), "MiB at most": worst[1] >> 20}
            if accepted:
                row.figures["made sense, and were loaded"] = accepted
            rows.append(row)
    return rows


class DishonestError(Exception):
    """A forged file was loaded, and answers as no honest file does."""


def must(holds, what):
    if not holds:
        raise DishonestError(what)


def judged(use, path):
    """Load and use a forgery; return what came of it, the seconds and the bytes of memory that it took."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = peak(), time.process_time()  # other programs on this machine do not count
    try:
        use(path)
        kind, text = "made sense", ""
    except DishonestError as error:
        kind, text = "accepted", str(error)
    except (SemidError, OSError):
        kind, text = "refused", ""
    except Exception as error:
        kind, text = "other error", f"{type(error).__name__}: {error}"
    return kind, text, time.process_time() - started, peak() - before


def peak():
    """Return the largest memory of this process so far, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    raise RuntimeError("no VmHWM in /proc/self/status")


class RunsCode:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


class Originals:
    """Honest files, from which forgeries are made."""

    def __init__(self, folder):
        self.marker = folder / "marker"
        codes = np.unique(np.random.default_rng(0).integers(0, 16, (300, 3)), axis=0)
        self.codes = codes
        catalogue = semid.SemanticIds([f"item-{at}" for at in range(len(codes))], codes, codebook_sizes=(16, 16, 16))
        numbered = semid.SemanticIds(np.arange(len(codes)) * 3, codes, codebook_sizes=(16, 16, 16))
        catalogue.trie().save(folder / "trie")
        catalogue.trie().restrict(np.arange(0, 200, 2)).save(folder / "restricted")
        self.tries = [read_tensors(folder / name) for name in ("trie", "restricted")]
        vocabulary = semid.SidVocabulary.from_token_ids([range(10, 26), range(30, 46), range(50, 66)], eos_token_id=1)
        quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=8).fit(embeddings(0))
        network = semid.RQVAE(
            n_levels=2, codebook_size=4, hidden_sizes=(8,), latent_dim=4, training=Training(epochs=1, device="cpu")
        ).fit(embeddings(0))
        self.folders = {}
        for thing in (catalogue, numbered, vocabulary, quantizer, network):
            at = folder / f"folder-{len(self.folders)}"
            thing.save_pretrained(at)
            config = json.loads((at / "config.json").read_text())
            arrays, _ = read_tensors(at / "model.safetensors")
            self.folders[len(self.folders)] = config, {name: array.copy() for name, array in arrays.items()}, at
        fit_network(folder / "checkpoint")
        arrays, head = read_tensors(folder / "checkpoint")
        # As after the first of its epochs, so that a fit that takes it goes on.
        self.checkpoint = arrays, head | {"history": json.dumps(json.loads(head["history"])[:1])}

    def kinds(self):
        """Return each kind of forgery: words, how one is written, how it is loaded and used."""
        return [
            ("tries with other arrays", self.trie, use_trie),
            ("catalogues of string ids with other arrays", lambda *at: self.folder(0, *at), use_catalogue),
            ("catalogues with a forged `item_ids.marisa`", self.marisa, use_catalogue),
            ("catalogues of integer ids with other arrays", lambda *at: self.folder(1, *at), use_catalogue),
            ("vocabularies with other arrays or settings", lambda *at: self.folder(2, *at), use_vocabulary),
            ("quantizers with other arrays or settings", lambda *at: self.folder(3, *at), use_quantizer),
            ("networks with other arrays or settings", lambda *at: self.folder(4, *at), use_quantizer),
            ("checkpoints with other arrays or settings", self.training, fit_network),
            ("headers that lie about sizes, types and places", self.header, use_any),
            ("headers with a name twice, or with arrays in one place", self.doubled, use_any),
            ("`config.json` that is deep, long, a pipe, a device or a folder", self.config, use_catalogue),
            ("`.npy` and `.npz` that lie, are bombs, locked or hold pickles, as codes", self.numpy, use_codes),
            ("the same, as embeddings", self.numpy, check_embeddings),
            ("pickles in place of saved files", self.pickled, use_any),
            ("pickles in place of a checkpoint", self.pickled_file, fit_network),
            ("pickles in place of codes", self.pickled_file, use_codes),
        ]

    def trie(self, rng, path):
        arrays, head = self.tries[rng.randrange(2)]
        arrays = mutated(rng, {name: array.copy() for name, array in arrays.items()})
        write_tensors(path, arrays, metadata=head | {"crc32": checksum(arrays, Mark.of_head(head))})

    def folder(self, which, rng, path):
        config, arrays, _ = self.folders[which]
        plain = {name: value for name, value in config.items() if name not in HEAD}
        if rng.random() < 0.4:
            plain = mutated_json(rng, plain)
        else:
            arrays = mutated(rng, {name: array.copy() for name, array in arrays.items()})
        write_folder(path, class_name=config["class"], config=plain, arrays=arrays, card="forged")

    def marisa(self, rng, path):
        """Change bytes of the trie of ids itself: its header, its sizes, or any; a length more often than not."""
        config, arrays, _ = self.folders[0]
        data = bytearray(arrays["item_ids.marisa"].tobytes())
        for _ in range(rng.choice([1, 1, 3, 30])):
            at = rng.randrange(rng.choice([16, 64, len(data)]))
            if rng.random() < 0.5:
                data[at] = rng.randrange(256)
            else:
                at -= at % 8
                data[at : at + 8] = struct.pack("<Q", rng.choice(NUMBERS) % 2**64)
        if rng.random() < 0.3:
            data = data[: rng.randrange(len(data) + 1)] if rng.random() < 0.7 else data + bytes(rng.randrange(1, 99))
        plain = {name: value for name, value in config.items() if name not in HEAD}
        arrays = arrays | {"item_ids.marisa": np.frombuffer(bytes(data), np.uint8)}
        write_folder(path, class_name=config["class"], config=plain, arrays=arrays, card="forged")

    def training(self, rng, path):
        arrays, head = self.checkpoint
        plain = {name: head[name] for name in ("fingerprint", "history")}
        kind = rng.randrange(10)
        if kind == 0:
            plain["history"] = json.dumps(mutated_json(rng, {"0": 1}))
        elif kind == 1:
            plain["fingerprint"] = json.dumps(mutated_json(rng, json.loads(plain["fingerprint"])))
        elif kind == 2:
            plain[rng.choice(sorted(plain))] = rng.choice(["", "[" * 100_000, "null", "{}", "[]", "[3]", "[{}]", "NaN"])
        elif kind == 3:
            del plain[rng.choice(sorted(plain))]
        elif kind == 4:
            name = rng.choice(sorted(arrays))
            arrays = {rng.choice(["x", "model.", "best.x", "optimizer.x", f"optimizer.{10**9}.step"]): arrays[name]}
        else:
            arrays = mutated(rng, {name: array.copy() for name, array in arrays.items()})
        write_tensors(path, arrays, metadata=plain | {"checksum": checksum_of(plain, arrays)})

    def doubled(self, rng, path):
        """Name arrays twice in a header, lay them over each other, or announce a long header that is there."""
        arrays, head = self.tries[rng.randrange(2)]
        write_tensors(path, arrays, metadata=head)
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
        names = [name for name in header if name != "__metadata__"]
        one, other = rng.sample(names, 2)
        kind = rng.randrange(4)
        if kind == 0:
            entry = json.dumps(rng.choice([header[one], header[other], None, header["__metadata__"]]))
            again = f', "{rng.choice([one, "__metadata__"])}": {entry}' * rng.choice([1, 2, 1000])
            text = json.dumps(header)[:-1] + again + "}"
        elif kind == 1:
            header[one] |= {"data_offsets": header[other]["data_offsets"]}
            text = json.dumps(header)
        elif kind == 2:
            begin, end = header[one]["data_offsets"]
            by = rng.choice([-8, -1, 1, 4, 8, len(rest)])
            header[one]["data_offsets"] = [begin + by, end + by]
            text = json.dumps(header)
        else:
            text = json.dumps(header)
            path.write_bytes(struct.pack("<Q", size := rng.randrange(2**20, 2**30)) + text.encode())
            os.truncate(path, 8 + size + len(rest))  # sparse
            return
        path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + rest)

    def header(self, rng, path):
        arrays, head = self.tries[0]
        write_tensors(path, arrays, metadata=head)
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
        names = [name for name in header if name != "__metadata__"]
        one = header[rng.choice(names)]
        kind = rng.randrange(9)
        if kind == 0:
            one["data_offsets"] = [rng.choice(NUMBERS), rng.choice(NUMBERS)]
        elif kind == 1:
            one["shape"] = [rng.choice(NUMBERS) for _ in range(rng.choice([0, 1, 2, 9, 100_000]))]
        elif kind == 2:
            one["dtype"] = rng.choice(["F4", "F8_E4M3", "C64", "", "object", "I64", "BOOL", 3, None])
        elif kind == 3:
            header |= {f"more-{at}": one for at in range(rng.choice([1, 1000, 20_000]))}
        elif kind == 4:
            header["__metadata__"] = rng.choice([{"class": 3}, [], "x", {"class": "x" * 2**20}, None])
        elif kind == 5:
            header[rng.choice(names)] = rng.choice([None, [], {}, "x", 7])
        text = json.dumps(header).encode()
        if kind == 6:
            text = rng.choice([b"[" * 100_000, b"{" * 9, b"\xff" * 99, b"", b'{"a":' * 50_000, b" " * 2**20])
        size = rng.choice([2**20, 2**30, 2**40, 2**63, 7]) if kind == 7 else len(text)
        if kind == 8:
            rest = rest[: rng.randrange(len(rest))] if rng.random() < 0.5 else rest + bytes(100)
        path.write_bytes(struct.pack("<Q", size) + text + rest)

    def config(self, rng, path):
        *_, at = self.folders[0]
        shutil.copytree(at, path)
        file = path / "config.json"
        text = file.read_text()
        kind = rng.randrange(8)
        if kind == 0:
            file.unlink()
            os.mkfifo(file)
        elif kind == 1:
            file.unlink()
            file.mkdir()
        elif kind == 2:
            file.unlink()
            file.symlink_to(rng.choice(["/dev/zero", "/dev/random", "/dev/stdin", "config.json", "/proc/self/mem"]))
        elif kind == 3:
            os.truncate(file, 2 << 30)  # sparse
        elif kind == 4:
            file.write_text(rng.choice(["[", '{"a":', '{"history":[']) * 100_000)
        elif kind == 5:
            file.write_bytes(os.urandom(rng.randrange(1000)))
        elif kind == 6:
            file.write_text(text.replace('"views"', '"x": ' + "9" * rng.choice([5000, 10**6]) + ', "views"'))
        else:
            file.write_text(text.replace("SemanticIds", rng.choice(["os.system", "Trie", "KMeans", "__class__", ""])))

    def numpy(self, rng, path):
        kind = rng.randrange(7)
        target = path.with_suffix(".npy" if kind < 3 else ".npz")
        codes = self.codes.astype(np.uint8)
        if kind == 0:
            np.save(target, np.array([RunsCode(self.marker), 1], object), allow_pickle=True)
        elif kind == 1:
            shape = tuple(rng.choice([2**20, 2**33, 2**40, 2**62, -1, 0]) for _ in range(rng.randrange(4)))
            descr = rng.choice(["'|u1'", "'<f8'", "'|O'", "[('a', '<f8')]", "'|V99999999'", "3"])
            write_npy(target, f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape!r}, }}")
        elif kind == 2:
            write_npy(target, rng.choice(["(" * 5000, "{'a':" * 5000, "__import__('os')", "1" * 9000, "{'shape': "]))
        elif kind == 3:
            np.savez(target, a=np.array([RunsCode(self.marker)], object))
        elif kind == 4:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
                with archive.open("a.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.zeros((150_000_000, 1), np.uint8))
        else:
            np.savez_compressed(target, a=codes, b=codes)
            data = bytearray(target.read_bytes())
            for _ in range(rng.randrange(1, 30)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            if kind == 6:
                data[6] |= 1
                data[data.rfind(b"PK\x01\x02") + 8] |= 1
            target.write_bytes(data)
        return target

    def pickled_file(self, rng, path):
        thing = RunsCode(self.marker)
        target = path.with_suffix(rng.choice(["", ".npy", ".npz", ".safetensors", ".parquet"]))
        if rng.random() < 0.5:
            torch.save({"model": thing, "more": [0] * rng.randrange(99)}, target)
        else:
            target.write_bytes(pickle.dumps(thing, protocol=rng.randrange(pickle.HIGHEST_PROTOCOL + 1)))
        return target

    def pickled(self, rng, path):
        self.pickled_file(rng, path).rename(path)
        if rng.random() < 0.5:
            at = path.with_name("forged-inner")
            path.rename(at)
            shutil.copytree(self.folders[3][2], path)
            shutil.move(at, path / rng.choice(["model.safetensors", "config.json"]))


HEAD = {"class", "format_version", "semid_version", "checksum", "tensors"}


def write_npy(path, header):
    """Write a .npy file with a header of our own and few data."""
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + bytes(64))


def mutated(rng, arrays):
    """Change one to three things in named arrays: values, lengths, shapes, types, which there are."""
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice(sorted(arrays))
        array = arrays[name]
        kind = rng.randrange(7)
        if kind <= 2 and array.size:
            if array.dtype.kind == "f":
                array.reshape(-1)[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e38, 0])
            else:
                value = np.array(rng.choice(NUMBERS) % 2**64, np.uint64).astype(array.dtype)
                array.reshape(-1)[rng.randrange(array.size)] = value
        elif kind == 3:
            arrays[name] = array[: rng.randrange(len(array) + 1)] if array.ndim else array
        elif kind == 4:
            arrays[name] = array.astype(rng.choice(["u1", "i4", "i8", "f4", "f8", "u8"]))
        elif kind == 5:
            arrays[name] = rng.choice([array[None], np.concatenate([array, array]) if array.ndim else array, array * 0])
        elif len(arrays) > 1:
            del arrays[name]
    return arrays


def mutated_json(rng, config):
    """Change one value of a configuration."""
    config = json.loads(json.dumps(config))
    values = [None, True, -1, 0, 2**70, 1.5, "x", "", [], {}, [[]], [1] * 10_000, {"a": 1}, "x" * 10**6, 10**6, [2**40]]
    if rng.random() < 0.8 and config:
        config[rng.choice(sorted(config))] = rng.choice(values)
    else:
        config[rng.choice(["more", "views", "seed"])] = rng.choice(values)
    return config


def use_trie(path):
    """Load a trie as one from elsewhere should be, and ask it everything."""
    trie = semid.Trie.load(path, mmap=True, verify=True)
    ask(trie)
    everything = trie.codes_of(np.arange(trie.n_ranks))
    must(len(np.unique(everything, axis=0)) == len(everything), "an ID twice")
    must((trie.rank(everything[:1]) <= 0).all(), "the first ID is not the first")
    honest = semid.Trie.from_codes(everything, codebook_sizes=trie.codebook_sizes)
    for name, one, other in zip(trie._levels._fields, trie._levels, honest._levels, strict=True):
        must(np.array_equal(one, other), f"{name} that these codes do not have")


def ask(trie):
    trie.codes_of(np.arange(trie.n_ranks))
    nodes = np.zeros(1, np.int64)
    for depth in range(trie.n_levels):
        _, codes = trie.allowed(nodes, depth=depth)
        if not len(codes):
            break
        scores = np.zeros((1, len(nodes), trie.codebook_sizes[depth]), np.float32)
        found = trie.select(scores, np.zeros((1, len(nodes)), np.float32), nodes[None], depth=depth, k=50)
        nodes = found.nodes[0][found.nodes[0] >= 0]
        trie.restrict(np.arange(0, trie.n_ranks, 2)).ranks()


def use_catalogue(path):
    catalogue = semid.SemanticIds.from_pretrained(path)
    items = catalogue.items_at(np.arange(len(catalogue)))
    must(len(set(items)) == len(catalogue), "an item twice")
    for view in catalogue.views or (None,):
        codes = catalogue.codes_of(items, view)
        must(list(catalogue.items_of(codes, view)) == list(items), "codes that belong to other items")
        ranked = catalogue.items_at(np.arange(len(catalogue)), view)
        must((catalogue.ranks_of(ranked, view) == np.arange(len(catalogue))).all(), "other ranks")
    for view in catalogue.views or (None,):
        ask(catalogue.trie(view) if view else catalogue.trie())
    catalogue.remove(items[:1])


def use_vocabulary(path):
    vocabulary = semid.SidVocabulary.from_pretrained(path)
    codes = np.array([[0] * vocabulary.n_levels, [size - 1 for size in vocabulary.codebook_sizes]])
    tokens = vocabulary.to_tokens(codes)
    must((tokens >= 0).all() and (vocabulary.to_codes(tokens) == codes).all(), "tokens of other codes")


def use_quantizer(path):
    quantizer = load_quantizer(path)
    codes = quantizer.encode(embeddings(0))
    must(np.isfinite(quantizer.decode(codes)).all(), "no finite vectors")


def fit_network(path):
    """Fit a network with a checkpoint, which is written or continued."""
    training = Training(epochs=2, device="cpu")
    network = semid.RQVAE(n_levels=2, codebook_size=4, hidden_sizes=(8,), latent_dim=4, training=training)
    network.fit(embeddings(0), checkpoint=path)
    must(np.isfinite(network.decode(network.encode(embeddings(0)))).all(), "no finite vectors")


def use_codes(path):
    codes = load_codes(path)
    for array in codes.values() if isinstance(codes, dict) else [codes]:
        semid.Trie.from_codes(np.unique(array, axis=0) if array.ndim == 2 and len(array) < 9999 else array)


def use_any(path):
    """Load what may be of any kind, in each way that there is; return if one of them takes it."""
    errors = []
    ways = (use_trie, use_vocabulary, use_catalogue, use_quantizer)
    for load in ways:
        try:
            load(path)
        except (SemidError, OSError) as error:
            errors.append(error)
    if len(errors) == len(ways):
        raise errors[0]
