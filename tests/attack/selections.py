"""One step of a beam search against brute force, on random tries with scores of few distinct values.

Requests exclude items, name candidates, or search a restricted trie. Brute force looks at every item for every request:
which codes lead to an item that the request may get, and which of them are best. It shares no code with semid.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import semid
from attack.row import Row
from semid.kernels import BACKENDS, available, use_backend
from semid.trie import build

TITLE = "Constrained selections"
TRIES = 20_000_000  # selections, all together
THREADS = 8
BATCH = 256
PART = BATCH // THREADS


def some_trie(rng):
    """Return distinct sorted codes, sizes and a trie of a random layout."""
    sizes = tuple(int(size) for size in rng.choice([1, 2, 3, 5, 8, 16, 32, 300], int(rng.integers(1, 6))))
    n_items = int(rng.choice([1, 2, 7, 40, 150, 400]))
    # Skewed draws give nodes of many and of few items.
    share = rng.random((n_items, len(sizes))) ** rng.choice([1, 3])
    codes = np.unique((share * sizes).astype(np.int64), axis=0)
    usual, build.ITEMS_PER_EDGE = build.ITEMS_PER_EDGE, int(rng.choice([1, 2, 8, 10**9]))
    try:
        return codes, sizes, semid.Trie.from_codes(rng.permutation(codes), codebook_sizes=sizes)
    finally:
        build.ITEMS_PER_EDGE = usual


def numbers_of(codes, depth):
    """Return the number of each item's prefix among all distinct ones in lexicographic order."""
    if depth == 0:
        return np.zeros(len(codes), int)
    return np.unique(codes[:, :depth], axis=0, return_inverse=True)[1].reshape(-1)


def nodes_of(trie, codes, depth):
    """Return the trie's node of each of these prefixes; the numbers of nodes depend on the layout."""
    nodes = trie.walk(np.unique(codes[:, :depth], axis=0) if depth else np.zeros((1, 0), int))
    if len(set(nodes.tolist())) < len(nodes) or nodes.min() < 0:
        raise AssertionError(f"walk gives no distinct nodes: {nodes}")
    return np.append(nodes, -1)


def some_step(rng, codes, sizes):
    """Draw beams at a depth, dead ones among them, scores of few distinct values, and the items that each may get."""
    depth = int(rng.integers(len(sizes)))
    n_nodes = int(numbers_of(codes, depth).max()) + 1
    beams, values = int(rng.integers(1, 5)), int(rng.choice([1, 2, 4, 1000]))
    nodes = rng.integers(-1, n_nodes, (BATCH, beams))
    scores = rng.integers(1 - values, 1, (BATCH, beams, sizes[depth])).astype(np.float32)
    start = rng.integers(1 - values, 1, (BATCH, beams)).astype(np.float32)
    scores[rng.random(scores.shape) < rng.choice([0, 0.1])] = -np.inf
    return depth, nodes, scores, start, int(rng.choice([1, 2, 3, 5, 10, 50]))


def some_lists(rng, n_items):
    """Return lists of ranks, or None for some requests, and which items each leaves when they are excluded."""
    marked = rng.random((BATCH, n_items)) < rng.choice([0.01, 0.3, 0.9, 1])
    given = rng.random(BATCH) < rng.choice([0.5, 1])
    lists = [np.flatnonzero(row).tolist() if here else None for row, here in zip(marked, given, strict=True)]
    return lists, marked, given


def brute_force(codes, size, depth, nodes, scores, start, k, may):
    """Return the scores, beams, codes and nodes of the best continuations, by looking at every item."""
    batch = len(nodes)
    at, below = numbers_of(codes, depth), numbers_of(codes, depth + 1)
    # Which (prefix, code) pairs there are, the number of the prefix that each makes, and who may reach an item by it.
    pairs, which = np.unique(at * size + codes[:, depth], return_inverse=True)
    member = np.zeros((len(codes), len(pairs)), np.float32)
    member[np.arange(len(codes)), which.reshape(-1)] = 1
    reached = may.astype(np.float32) @ member > 0
    child = np.full(((int(at.max()) + 1) * size,), -1)
    child[at * size + codes[:, depth]] = below
    column = np.full(child.shape, -1)
    column[pairs] = np.arange(len(pairs))
    wanted = np.where(nodes[..., None] >= 0, nodes[..., None] * size + np.arange(size), 0)
    open_ = (nodes[..., None] >= 0) & (column[wanted] >= 0)
    open_ &= np.take_along_axis(reached, column[wanted].reshape(batch, -1), axis=1).reshape(wanted.shape)
    total = np.where(open_, start[..., None] + scores, np.float32(-np.inf)).reshape(batch, -1)
    order = np.argsort(-total, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(total, order, axis=1)
    empty = best == -np.inf
    found = order // size, order % size, np.take_along_axis(child[wanted].reshape(batch, -1), order, axis=1)
    short = k - order.shape[1]
    padded = [np.pad(np.where(empty, -1, one), [(0, 0), (0, max(short, 0))], constant_values=-1) for one in found]
    return [np.pad(best, [(0, 0), (0, max(short, 0))], constant_values=-np.inf), *padded], open_


def attack(scale):
    """Compare both back ends, called from one thread and from eight at once, with brute force."""
    ways = [(name, n) for name in BACKENDS if not available()[name] for n in (1, THREADS)]
    rows = {(name, n): Row(f"back end `{name}`, threads: {n}", 0, dict.fromkeys(FAULTS, 0)) for name, n in ways}
    steps = max(1, round(TRIES * scale / len(ways) / BATCH))
    with ThreadPoolExecutor(THREADS) as pool:
        for seed in range(steps):
            _step(np.random.default_rng(seed), rows, pool, seed)
    return list(rows.values())


FAULTS = ("wrong", "invalid", "duplicate")


def _step(rng, rows, pool, seed):
    codes, sizes, trie = some_trie(rng)
    depth, nodes, scores, start, k = some_step(rng, codes, sizes)
    ids, ids_below = nodes_of(trie, codes, depth), nodes_of(trie, codes, depth + 1)
    n_items = len(codes)
    may = np.ones((BATCH, n_items), bool)
    exclude = candidates = None
    if rng.random() < 0.4:
        exclude, marked, given = some_lists(rng, n_items)
        may &= ~(marked & given[:, None])
    if rng.random() < 0.3:
        candidates, marked, given = some_lists(rng, n_items)
        may &= marked | ~given[:, None]
    if rng.random() < 0.4:
        alive = rng.random(n_items) < rng.choice([0.05, 0.5, 0.95])
        trie, may = trie.restrict(alive), may & alive
    expected, open_ = brute_force(codes, sizes[depth], depth, nodes, scores, start, k, may)

    expected[3] = ids_below[expected[3]]
    nodes = ids[nodes]

    def call(name, rows):
        with use_backend(name):
            lists = [None if given is None else given[rows] for given in (exclude, candidates)]
            return trie.select(
                scores[rows], start[rows], nodes[rows], depth=depth, k=k, exclude=lists[0], candidates=lists[1]
            )

    for (name, n_threads), row in rows.items():
        if n_threads == 1:
            parts = [call(name, slice(0, BATCH))]
        else:
            slices = [slice(at, at + PART) for at in range(0, BATCH, PART)]
            parts = list(pool.map(call, [name] * THREADS, slices))
        got = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        row.tried += BATCH
        _judge(row, got, expected, open_, seed)


def _judge(row, got, expected, open_, seed):
    """Count requests whose slots differ from brute force, hold what is not allowed, or hold something twice."""
    same = np.ones(BATCH, bool)
    for one, other in zip(got, expected, strict=True):
        same &= (one == other).all(axis=1)
    if same.all():
        return
    for request in np.flatnonzero(~same).tolist():
        row.fault("wrong", f"seed {seed}, request {request}")
        filled = got[3][request] >= 0
        pairs = list(zip(got[1][request][filled].tolist(), got[2][request][filled].tolist(), strict=True))
        if not all(open_[request, beam, code] for beam, code in pairs):
            row.fault("invalid", f"seed {seed}, request {request}")
        if len(set(pairs)) < len(pairs):
            row.fault("duplicate", f"seed {seed}, request {request}")
