"""Threads that share everything, processes of every start method, interrupts at random moments."""

import hashlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import semid
from attack.artefacts import as_bytes, trie_bytes
from attack.memory import codes_of, parts
from attack.readers import in_a_process
from attack.row import Row
from semid.kernels import BACKENDS, available, use_backend
from semid.quantizers import Training

TITLE = "Threads, processes, interrupts"
CALLS, PROCESS_CALLS, INTERRUPTS = 20_000, 300, 400
N_THREADS = 16
MOST_SECONDS = 5.0


def attack(scale):
    """Run calls in threads, in processes, with other numbers of threads, and interrupt them."""
    rows = [in_threads(name, max(32, round(CALLS * scale))) for name in BACKENDS if not available()[name]]
    rows += [in_processes(method, max(4, round(PROCESS_CALLS * scale))) for method in METHODS]
    rows.append(numbers_of_threads())
    return rows + interrupts(max(1, round(INTERRUPTS * scale)))


def digest(arrays):
    return hashlib.sha256(as_bytes([np.asarray(one) for one in arrays])).hexdigest()


def shared_calls():
    """Return calls over shared objects; each gives the same whenever it is called."""
    rng = np.random.default_rng(0)
    model, trie, vocab, _ = parts()
    import torch

    prompts = {"input_ids": torch.randint(2, 10, (3, 6), generator=torch.Generator().manual_seed(0))}
    codes = codes_of(2000)
    catalogue = semid.SemanticIds([f"i{at}" for at in range(len(codes))], codes, codebook_sizes=(64, 64, 64))
    X = rng.standard_normal((200, 6)).astype(np.float32)
    quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=16).fit(X)
    names = [f"i{at}" for at in range(0, 1000, 7)]
    nodes = trie.walk(codes[:64, :1])
    scores = rng.standard_normal((16, 4, 64)).astype(np.float32)
    start, few = np.zeros((16, 4), np.float32), nodes.reshape(16, 4)

    def processor():
        one = semid.SidLogitsProcessor(trie, vocab, prompt_len=6)
        tokens = torch.cat([prompts["input_ids"], torch.from_numpy(vocab.to_tokens(codes[:3])[:, :1])], 1)
        return [one(tokens, torch.zeros(3, 220)).numpy()]

    def changes():
        own = catalogue.__copy__()
        own.remove(names[:20])
        own.add(["new"], np.array([[63, 63, 63]]) if (codes != 63).any(axis=1).all() else codes[:0])
        return [own.trie().codes_of(np.arange(50))]

    generator = semid.Generator(model, trie=trie, vocab=vocab, num_beams=4)
    return {
        "select": lambda: trie.select(scores, start, few, depth=1, k=8),
        "restrict": lambda: [trie.restrict(np.arange(0, trie.n_items, 3)).ranks()],
        "generate": lambda: semid.generate(model, prompts, trie=trie, vocab=vocab, num_beams=4)[:3],
        "Generator": lambda: generator.generate(prompts)[:3],
        "score_items": lambda: [
            semid.score_items(model, prompts, trie=trie, vocab=vocab, candidates=[[0, 5], [1, 2], [7, 9]])
        ],
        "processor": processor,
        "look-ups": lambda: [catalogue.codes_of(names), catalogue.ranks_of(names)],
        "changes of a copy": changes,
        "encode": lambda: [quantizer.encode(X)],
        "resolve": lambda: [semid.resolve(quantizer, X).codes],
    }


def in_threads(backend, n):
    """Make every call from 16 threads at once and compare with one thread."""
    row = Row(f"16 threads that share everything, back end `{backend}`", 0, {"different": 0, "other error": 0})
    with use_backend(backend):
        calls = shared_calls()
        expected = {name: digest(call()) for name, call in calls.items()}

    def one(name):
        with use_backend(backend):
            try:
                return name, digest(calls[name]()) == expected[name], ""
            except Exception as error:
                return name, None, f"{type(error).__name__}: {error}"

    names = random.Random(0).choices(list(calls), k=n)
    with ThreadPoolExecutor(N_THREADS) as pool:
        for name, same, text in pool.map(one, names):
            row.tried += 1
            if not same:
                row.fault("other error" if same is None else "different", f"{name} {text}")
    return row


METHODS = ("fork", "spawn", "forkserver")


def work_of(thing, path):
    """Return what a process makes of a trie that it is given, and of the same one from a file."""
    scores = np.random.default_rng(0).standard_normal((4, 1, 64)).astype(np.float32)
    found = thing.select(scores, np.zeros((4, 1), np.float32), np.zeros((4, 1), int), depth=0, k=9)
    return digest(found), hashlib.sha256(trie_bytes(path, mmap=True)).hexdigest()


def in_processes(method, n):
    """Send a trie to processes and compare, after this process has used all kernels and threads."""
    row = Row(f"processes by {method}", 0, {"different": 0, "other error": 0, "hang": 0})
    trie = semid.Trie.from_codes(codes_of(2000), codebook_sizes=(64, 64, 64))
    X = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    semid.ResidualKMeans(n_levels=2, codebook_size=16).fit(X).encode(X)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trie"
        trie.save(path)
        expected = work_of(trie, path)
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            jobs = [pool.submit(work_of, trie, path) for _ in range(n)]
            for job in jobs:
                row.tried += 1
                try:
                    if job.result(timeout=120) != expected:
                        row.fault("different")
                except TimeoutError:
                    row.fault("hang")
                    for process in pool._processes.values():
                        process.kill()
                    break
                except Exception as error:
                    row.fault("other error", f"{type(error).__name__}: {error}")
    return row


def numbers_of_threads():
    """Do the same work with 1, 2, 8 and 16 threads."""
    row = Row("the same work on 1, 2, 8 and 16 threads of BLAS", 0, {"different": 0})
    X = np.random.default_rng(0).standard_normal((20_000, 24)).astype(np.float32)

    def work():
        quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=64).fit(X[:5000])
        product = semid.ProductKMeans(n_levels=2, codebook_size=16, rotation="opq").fit(X[:3000])
        ids = semid.resolve(quantizer, X[:2000])
        trie = semid.Trie.from_codes(ids.codes, codebook_sizes=(64, 64))
        return digest([quantizer.encode(X), product.encode(X), ids.codes, *trie._levels])

    found = {}
    for n in (1, 2, 8, 16):
        with threadpool_limits(n):
            found[n] = work()
        row.tried += 1
        if found[n] != found[1]:
            row.fault("different", f"{n} threads")
    return row


def interrupts(n):
    """Interrupt long calls at random moments, and make them again with the same objects."""
    rows = []
    for what, prepare in INTERRUPTED.items():
        row = Row(f"SIGINT during {what}", 0, {"changed": 0, "late": 0, "other error": 0, "crash": 0})
        slowest, caught = 0.0, 0
        for first in range(0, max(1, n // len(INTERRUPTED)), 20):
            some = range(first, min(first + 20, max(1, n // len(INTERRUPTED))))
            found = in_a_process(lambda prepare=prepare, some=some: interrupted(prepare, some))
            row.tried += len(some)
            if found is None:
                row.fault("crash", f"tries {some}")
            for delay, was_caught, fault in found or ():
                slowest, caught = max(slowest, delay), caught + was_caught
                if fault or delay > MOST_SECONDS:
                    row.fault(*(fault or ("late", f"{delay:.1f} s")))
        row.figures = {"interrupted in the middle": caught, "seconds until it ended, at most": round(slowest, 2)}
        rows.append(row)
    return rows


def interrupted(prepare, tries):
    """Return for each try how long the interrupt took, whether it came in time, and what was wrong after it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder:
        call = prepare(Path(folder))
        call()  # the first one is longer
        started = time.perf_counter()
        expected = digest(call())
        length = time.perf_counter() - started
        found = []
        for seed in tries:
            delay = random.Random(seed).random() * length
            sent = [0.0]

            def send(sent=sent):
                sent[0] = time.perf_counter()
                os.kill(os.getpid(), signal.SIGINT)

            timer = threading.Timer(delay, send)
            late, caught, fault = 0.0, False, None
            try:
                timer.start()
                call()
                timer.cancel()
                timer.join()
            except KeyboardInterrupt:
                late, caught = time.perf_counter() - sent[0], True
            except Exception as error:
                fault = "other error", f"{type(error).__name__}: {error}"
            try:
                timer.join()
                if digest(call()) != expected:
                    fault = "changed", f"seed {seed}"
            except KeyboardInterrupt:  # the signal came between the two calls
                pass
            except Exception as error:
                fault = "other error", f"afterwards, {type(error).__name__}: {error}"
            found.append((late, caught, fault))
        return found


def embeddings(n=4000):
    return np.random.default_rng(0).standard_normal((n, 16)).astype(np.float32)


def fit_k_means(folder):
    X, quantizer = embeddings(), semid.ResidualKMeans(n_levels=3, codebook_size=64)
    return lambda: [quantizer.fit(X).encode(X)]


def fit_network(folder):
    X = embeddings(800)
    training = Training(epochs=3, device="cpu")
    quantizer = semid.RQVAE(n_levels=2, codebook_size=8, hidden_sizes=(16,), latent_dim=8, training=training)
    return lambda: [quantizer.fit(X).encode(X)]


def resolve(folder):
    X = embeddings()
    quantizer = semid.ResidualKMeans(n_levels=2, codebook_size=80).fit(X[:2000])
    return lambda: [semid.resolve(quantizer, X).codes]


def generate(folder):
    import torch

    model, trie, vocab, _ = parts()
    prompts = {"input_ids": torch.randint(2, 10, (16, 40), generator=torch.Generator().manual_seed(0))}
    generator = semid.Generator(model, trie=trie, vocab=vocab, num_beams=50)
    return lambda: generator.generate(prompts)[:3]


def build(folder):
    codes = np.random.default_rng(0).integers(0, 256, (300_000, 4))
    return lambda: semid.Trie.from_codes(np.unique(codes, axis=0), codebook_sizes=(256,) * 4)._levels


def save(folder):
    codes = codes_of(100_000)
    catalogue = semid.SemanticIds([f"item {at}" for at in range(len(codes))], codes, codebook_sizes=(64, 64, 64))

    def call():
        catalogue.save_pretrained(folder / "catalogue")
        found = semid.SemanticIds.from_pretrained(folder / "catalogue")
        if len(list(folder.iterdir())) > 1:
            sys.stderr.write(f"litter: {list(folder.iterdir())}\n")
        return [found.codes_of([f"item {at}" for at in range(100)])]

    return call


INTERRUPTED = {
    "a fit of k-means": fit_k_means,
    "a fit of a network": fit_network,
    "`resolve`": resolve,
    "`Generator.generate`": generate,
    "`Trie.from_codes`": build,
    "`save_pretrained` and `from_pretrained` of a catalogue": save,
}
