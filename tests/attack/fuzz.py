"""The public API called with odd values, and the C kernels with arrays that do not fit, under gcc's sanitizers."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

import semid
from attack.memory import parts
from attack.odd import odd
from attack.readers import in_a_process
from attack.row import Row
from semid.errors import SemidError
from semid.trie.torch_mirror import TorchTrie

TITLE = "Wrong arguments"
PUBLIC, SEARCHES, RAW = 1_000_000, 20_000, 1_000_000
PART = 500
# A call that takes longer, or a process that grows more, does what nobody asked for.
SECONDS, GIB = 20, 4
FAULTS = ("crash", "other error", "slow", "memory")
ROOT = Path(__file__).parents[2]


def attack(scale):
    """Call everything; parts of the calls in forked processes, so that a crash is counted."""
    rows = []
    for what, n, make in (
        ("trie, torch mirror, rank lists", round(PUBLIC * 0.6), trie_calls),
        ("catalogue, vocabulary, metrics, sizes", round(PUBLIC * 0.3), catalogue_calls),
        ("quantizers, `resolve`", round(PUBLIC * 0.1), quantizer_calls),
        ("`generate`, `score_items`, `Generator`, the processor, the prefix function", SEARCHES, search_calls),
    ):
        rows.append(fuzz(what, max(50, round(n * scale)), make()))
    return [*rows, raw(max(1000, round(RAW * scale)))]


def fuzz(what, n, calls):
    """Make `n` calls of a table of calls, each with some good and some odd values."""
    row = Row(what, 0, dict.fromkeys(FAULTS, 0), {"answered": 0, "refused": 0})
    shown = set()  # one example of each call and class of error
    for first in range(0, n, PART):
        seeds = range(first, min(first + PART, n))
        found = in_a_process(lambda seeds=seeds: part(calls, seeds))
        row.tried += len(seeds)
        if found is None:
            row.fault("crash", f"seeds {seeds}")
            continue
        row.figures["answered"] += found["answered"]
        row.figures["refused"] += found["refused"]
        for kind, text in found["faults"]:
            call = kind, text.split(",")[0], text.split(": ")[1] if ": " in text else ""
            row.fault(kind, "" if call in shown else text, kept=30)
            shown.add(call)
    return row


class TooSlow(BaseException):
    """A call took too long."""


def part(calls, seeds):
    """Make some calls; a warning of NumPy's about numbers counts as an error that is not ours."""
    import resource

    def too_slow(*_):
        raise TooSlow

    signal.signal(signal.SIGALRM, too_slow)
    limit = GIB << 30
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmSize"):
            limit += int(line.split()[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    found = {"answered": 0, "refused": 0, "faults": []}
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)
    for seed in seeds:
        rng = random.Random(seed)
        name = rng.choice(list(calls))
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            calls[name](lambda good, rng=rng: good if rng.random() < 0.6 else odd(rng))
            found["answered"] += 1
        except (SemidError, OSError):
            found["refused"] += 1
        except TooSlow:
            found["faults"].append(("slow", f"{name}, seed {seed}"))
        except MemoryError as error:
            found["faults"].append(("memory", f"{name}, seed {seed}: {error}"))
        except Exception as error:
            found["faults"].append(("other error", f"{name}, seed {seed}: {type(error).__name__}: {str(error)[:150]}"))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return found


def some_codes():
    return np.unique(np.random.default_rng(0).integers(0, 8, (60, 3)), axis=0)


def trie_calls():
    import torch
    from trie.test_odd_arguments import CALLS

    trie = semid.Trie.from_codes(some_codes(), codebook_sizes=[8, 8, 8])
    mirror = TorchTrie(trie)

    scores, start, nodes = torch.zeros(2, 3, 8), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64)
    return CALLS | {
        "TorchTrie": lambda some: TorchTrie(some(trie)),
        "TorchTrie.select": lambda some: mirror.select(
            some(scores), some(start), some(nodes), depth=some(0), k=some(4), exclude=some(None), candidates=some(None)
        ),
        "TorchTrie.rank_lists": lambda some: mirror.rank_lists(some([[1], [2]])),
    }


def catalogue_calls():
    codes, names = some_codes(), [f"i{at}" for at in range(len(some_codes()))]
    sids = semid.SemanticIds(names, codes, codebook_sizes=(8, 8, 8))
    vocab = semid.SidVocabulary.from_token_ids([range(10, 18), range(18, 26), range(26, 34)], eos_token_id=1)
    X = np.random.default_rng(0).standard_normal((len(codes), 4)).astype(np.float32)

    def change(verb):
        return lambda some: verb(sids.__copy__(), some)

    return {
        "SemanticIds": lambda some: semid.SemanticIds(some(names), some(codes), codebook_sizes=some((8, 8, 8))),
        "codes_of": lambda some: sids.codes_of(some(names[:3])),
        "ranks_of": lambda some: sids.ranks_of(some(names[:3])),
        "items_at": lambda some: sids.items_at(some([0, 1])),
        "items_of": lambda some: sids.items_of(some(codes[:2])),
        "trie": lambda some: sids.trie(some(None)),
        "add": change(lambda own, some: own.add(some(["new"]), some([[7, 7, 7]]))),
        "remove": change(lambda own, some: own.remove(some(["i3"]))),
        "check_pair": lambda some: sids.check_pair(trie=some(sids.trie()), vocab=some(None), quantizer=some(None)),
        "from_pretrained": lambda some: semid.SemanticIds.from_pretrained(some("no such folder")),
        "from_parquet": lambda some: semid.SemanticIds.from_parquet(some("no such file")),
        "from_token_ids": lambda some: semid.SidVocabulary.from_token_ids(
            some([range(3), range(3, 6)]), eos_token_id=some(9)
        ),
        "to_tokens": lambda some: vocab.to_tokens(some(codes[:3])),
        "to_codes": lambda some: vocab.to_codes(some(vocab.to_tokens(codes[:3])), errors=some("ignore")),
        "to_text": lambda some: vocab.to_text(some(codes[:2])),
        "report": lambda some: semid.report(some(X), some(codes), n_neighbors=some(3), sample=some(9)),
        "suggest_sizes": lambda some: semid.suggest_sizes(some(1000), codebook_sizes=some((256,)), max_rate=some(0.2)),
    }


def quantizer_calls():
    X = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    views = {"semantic": X, "collaborative": X[:, :2]}
    fitted = semid.ResidualKMeans(n_levels=2, codebook_size=8).fit(X)
    several = semid.SharedSpecificKMeans(n_shared=1, n_specific=1, codebook_size=8).fit(views)
    codes = fitted.encode(X)
    return {
        "KMeans": lambda some: semid.KMeans(codebook_size=some(4), seed=some(0), max_iter=some(2)).fit(some(X)),
        "ResidualKMeans": lambda some: semid.ResidualKMeans(
            n_levels=some(2), codebook_size=some(4), max_iter=some(2)
        ).fit(some(X)),
        "ProductKMeans": lambda some: semid.ProductKMeans(
            n_levels=some(2), codebook_size=some(4), rotation=some(None), max_iter=2
        ).fit(some(X)),
        "SharedSpecificKMeans": lambda some: semid.SharedSpecificKMeans(
            n_shared=some(1), n_specific=some(1), codebook_size=some(4), max_iter=2
        ).fit(some(views)),
        "encode": lambda some: fitted.encode(some(X)),
        "decode": lambda some: fitted.decode(some(codes)),
        "candidates": lambda some: fitted.candidates(some(X), count=some(3), beam=some(4)),
        "encode of views": lambda some: several.encode(some(views)),
        "partial_fit": lambda some: semid.ResidualKMeans(n_levels=2, codebook_size=4).partial_fit(some(X)),
        "resolve": lambda some: semid.resolve(
            fitted, some(X), some(None), capacity=some(1), policy=some("nearest"), weights=some(None), taken=some(None)
        ),
    }


def search_calls():
    import torch

    model, trie, vocab, _ = parts()
    inputs = {"input_ids": torch.tensor([[3, 4, 5], [0, 6, 7]]), "attention_mask": torch.tensor([[1, 1, 1], [0, 1, 1]])}
    words = torch.tensor([[3, 4], [5, 6]])

    def prompts(some):
        made = {name: some(tensor) for name, tensor in inputs.items()}
        return some(made)

    return {
        "generate": lambda some: semid.generate(
            model, prompts(some), trie=some(trie), vocab=some(vocab), num_beams=some(3), normalize=some("full"),
            exclude=some(None), candidates=some(None), num_return=some(None), do_sample=some(False),
            temperature=some(1.0), seed=some(None),
        ),
        "score_items": lambda some: semid.score_items(
            model, prompts(some), trie=some(trie), vocab=some(vocab), candidates=some([[0, 1], [2, 3]])
        ),
        "Generator": lambda some: semid.Generator(
            model, trie=some(trie), vocab=some(vocab), num_beams=some(3)
        ).generate_many(some([[3, 4], [5]])),
        "processor": lambda some: semid.SidLogitsProcessor(some(trie), some(vocab), prompt_len=some(2))(
            some(words), some(torch.zeros(2, 220))
        ),
        "prefix function": lambda some: semid.prefix_allowed_tokens_fn(some(trie), some(vocab), prompt_len=some(2))(
            some(0), some(words[0])
        ),
    }  # fmt: skip


def raw(n):
    """Call the C kernels in a build with the sanitizers; the first report ends the process and is shown."""
    row = Row("C kernels called directly, under sanitizers", 0, {"sanitizer report": 0})
    if shutil.which("gcc") is None:
        row.what += " (not run: gcc is missing)"
        return row
    with tempfile.TemporaryDirectory() as folder:
        flags = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
        environment = os.environ | {"CFLAGS": flags, "SEMID_EXT": "require"}
        build = [sys.executable, "setup.py", "-q", "build_ext", "--build-temp", f"{folder}/temp", "--build-lib", folder]
        subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True)
        shutil.copy(ROOT / "semid_ext" / "__init__.py", Path(folder) / "semid_ext")
        libraries = (
            subprocess.run(["gcc", f"-print-file-name=lib{name}.so"], check=True, capture_output=True, text=True).stdout
            for name in ("asan", "ubsan")
        )
        environment |= {
            "LD_PRELOAD": " ".join(one.strip() for one in libraries),
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
            "SEMID_BACKEND": "ext",
            "PYTHONPATH": f"{folder}:{ROOT}:{ROOT / 'tests'}",
        }
        command = [sys.executable, "-m", "attack.raw_calls", str(n)]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        row.fault("sanitizer report", done.stderr[:2000])
    else:
        tried, refused = map(int, done.stdout.split())
        row.tried, row.figures = tried, {"refused": refused}
    return row
