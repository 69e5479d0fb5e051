"""The kernels let other threads go on, and several of them give what one gives."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import semid
from semid import kernels

SIZES = (256, 256, 256)


@pytest.fixture(scope="module")
def trie():
    codes = np.random.default_rng(0).integers(0, 256, (50_000, 3), np.uint8)
    return semid.Trie.from_codes(np.unique(codes, axis=0), codebook_sizes=SIZES)


def calls_of(trie, rows, vocabulary):
    """Return every call that works on rows, each with its result; they make their own outputs."""
    rng = np.random.default_rng(1)
    nodes = trie.walk(trie.codes_of(rng.integers(0, trie.n_items, rows))[:, :1])
    tokens = rng.permutation(vocabulary)[:256]
    log_probs = rng.standard_normal((rows // 4, 4, 256)).astype(np.float32)

    def mask():
        scores = np.ones((rows, vocabulary), np.float32)
        trie.mask_inplace(scores, nodes, depth=1, tokens=tokens)
        return scores

    def bitmask():
        bits = np.zeros((rows, vocabulary // 32), np.int32)
        trie.fill_bitmask(bits, nodes, depth=1, tokens=tokens)
        return bits

    return {
        "walk": lambda: trie.walk(trie.codes_of(np.arange(rows))),
        "mask_inplace": mask,
        "fill_bitmask": bitmask,
        "select": lambda: np.concatenate(
            [part.ravel() for part in trie.select(
                log_probs, np.zeros((rows // 4, 4)), nodes.reshape(-1, 4), depth=1, k=4)]
        ),
        "build": lambda: np.concatenate([part.ravel() for part in semid.Trie.from_codes(
            trie.codes_of(rng.permutation(trie.n_items)), codebook_sizes=SIZES)._levels]),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["walk", "mask_inplace", "fill_bitmask", "select", "build"])
def test_threads_at_once_give_what_one_gives(backend, trie, name):
    call = calls_of(trie, 64, 4096)[name]
    expected = call()

    def repeat(_):
        with kernels.use_backend(backend):
            return all(np.array_equal(call(), expected) for _ in range(20))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(repeat, range(4)))


def long_calls(trie):
    """Return the arguments of kernels for calls of some milliseconds."""
    rows = 2048
    arrays = (*trie._levels, *trie._alive)
    nodes, room, tokens = np.zeros(rows, np.int64), np.empty(256, np.uint8), np.arange(256)
    prefixes = np.tile(trie.codes_of(np.arange(rows)).astype(np.int64), (50, 1))
    none, lists = np.empty(0, np.int64), np.zeros(2, np.int64)
    out = [np.empty((1, 99), np.float32), *np.empty((3, 1, 99), np.int64)]
    log_probs, start = np.zeros((1, rows, 256), np.float32), np.zeros((1, rows), np.float32)
    return {
        "walk": (*arrays, prefixes, np.empty(len(prefixes), np.int64)),
        "mask_inplace": (
            *arrays, 0, nodes, tokens, -1, np.uint32(0), np.zeros((rows, 9999), np.uint32), room,
            np.empty(256, np.uint32), np.empty(rows, np.uint8),
        ),
        "walk_tokens": (
            *arrays, prefixes, 0, np.zeros(3, np.int64), 256 * np.arange(4), np.tile(np.arange(256, dtype=np.int32), 3),
            np.empty(len(prefixes), np.int64),
        ),
        "fill_bitmask": (*arrays, 0, nodes, tokens, np.zeros((rows, 999), np.int32), room),
        "select": (
            *arrays, 0, log_probs, start, nodes[None], none, lists, none, lists, np.zeros(1, np.uint8), *out,
        ),
        "sort_keys": (np.array([200_000], np.uint32), np.arange(200_000, 0, -1).astype(np.uint32)),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["walk", "walk_tokens", "mask_inplace", "fill_bitmask", "select", "sort_keys"])
def test_another_thread_goes_on_while_a_kernel_runs(backend, trie, name):
    """Beside a thread that counts, and that no clock ever lets go on: it does when a kernel lets go of the GIL."""
    call, arguments = kernels.kernel(name), long_calls(trie)[name]
    call(*arguments)  # compiled now
    counted, running, done = 0, threading.Event(), threading.Event()

    def count():
        nonlocal counted
        running.set()
        while not done.is_set():
            counted += 1
            time.sleep(0)  # lets go as well

    thread, interval = threading.Thread(target=count), sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread.start()
        running.wait()
        for _ in range(500):  # a busy machine may not start the other thread within one call
            before = counted
            call(*arguments)
            if counted > before:
                break
        else:
            pytest.fail("no call let the other thread go on")
    finally:
        done.set()
        sys.setswitchinterval(interval)
        thread.join()
