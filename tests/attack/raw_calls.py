"""Right calls of the C kernels, and the same with something that does not fit."""

import sys

import numpy as np

import semid

N_TRIE = 8


def calls():
    """Return the arguments of one right call of each kernel over a trie with explicit and flat levels."""
    rng = np.random.default_rng(0)
    codes = np.unique(rng.integers(0, [4, 30, 5, 9], (900, 4)), axis=0)
    trie = semid.Trie.from_codes(codes, codebook_sizes=(4, 30, 5, 9)).restrict(rng.random(len(codes)) < 0.7)
    arrays = [np.asarray(one).copy() for one in (*trie._levels, *trie._alive)]
    nodes, code = np.array([0, 1, -1, 3]), arrays[2].dtype
    tokens, room, row_starts = np.arange(30), np.empty(30, code), np.array([0, 30, 60, 60, 90])
    starts, ranks, one = np.array([0, 3, 5]), np.array([0, 2, 7, 1, 4]), np.zeros((2, 3), np.int64)
    out = [np.empty((2, 7), np.float32), *(np.empty((2, 7), np.int64) for _ in range(3))]
    tables = [np.array([0, 4]), np.array([0, 4, 34]), np.concatenate([np.arange(4), np.arange(30)]).astype(np.int32)]
    scores = np.zeros((4, 40), np.float32)
    return {
        "walk": [*arrays, codes[:5, :2].astype(np.int64), np.empty(5, np.int64)],
        "walk_tokens": [*arrays, codes[:5, :2].astype(np.int64), 0, *tables, np.empty(5, np.int64)],
        "ranges": [*arrays, 1, nodes, np.empty((4, 2), np.int64)],
        "count_children": [*arrays, 1, nodes, room, np.empty(5, np.int64)],
        "gather_children": [*arrays, 1, nodes, row_starts, np.empty(90, code)],
        "mask_inplace": [*arrays, 1, nodes, tokens, 0, np.float32(-np.inf).reshape(()), scores, room,
                         np.empty(30, np.float32), np.empty(4, np.uint8)],
        "fill_bitmask": [*arrays, 1, nodes, tokens, np.zeros((4, 2), np.uint32), room],
        "select": [*arrays, 1, np.zeros((2, 3, 30), np.float32), np.zeros((2, 3), np.float32), one, ranks, starts,
                   ranks, starts, np.zeros(2, np.uint8), *out],
    }  # fmt: skip


def mutated(name, arguments, rng):
    """Return a copy of arguments of which one is shorter, has a wrong offset, or is another number.

    Spared is what a kernel cannot see to be wrong without reading all codes: room for children and tokens of codes.
    """
    changed = [one.copy() if isinstance(one, np.ndarray) else one for one in arguments]
    trusted = {"count_children": {10}, "gather_children": {11}, "mask_inplace": {10}, "fill_bitmask": {10, 11}}
    at = int(rng.choice([at for at in range(len(changed)) if at not in trusted.get(name, set())]))
    value = changed[at]
    if not isinstance(value, np.ndarray):
        changed[at] = int(rng.choice([-(2**40), -1, 2, 3, 4, 5, 2**40]))
    elif at in {4, 5} and rng.random() < 0.5:  # offsets
        value[rng.integers(len(value))] += rng.choice([-(2**40), -7, -1, 1, 7, 2**40])
    elif value.ndim:
        axes = value.ndim - (name == "select" and at == N_TRIE + 1)  # scores of fewer codes, too
        axis = int(rng.integers(axes))
        keep = int(rng.integers(value.shape[axis]))
        changed[at] = np.ascontiguousarray(np.take(value, np.arange(keep), axis=axis))
    return changed


def call_often(n):
    """Make `n` calls with something that does not fit; print how many were made and how many were refused."""
    from semid import kernels

    made, rng, n_refused = calls(), np.random.default_rng(2), 0
    names = list(made)
    with kernels.use_backend("ext"):
        for at in range(n):
            name = names[at % len(names)]
            try:
                kernels.kernel(name)(*mutated(name, made[name], rng))
            except TypeError:
                n_refused += 1
    sys.stdout.write(f"{n} {n_refused}\n")


if __name__ == "__main__":
    call_often(int(sys.argv[1]))
