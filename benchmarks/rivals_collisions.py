"""Other ways to make IDs unique: what papers and libraries do, each exact about what it promises.

Each takes the quantizer, the embeddings and their greedy codes, and returns codes; `None` where it could not place all.
Only the last code of an item changes, except for first fit, which takes the first free ID of a beam search.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

import semid

__all__ = ["RIVALS", "least_matching"]

N_CANDIDATES = 64


def keys_of(codes, sizes):
    return np.ravel_multi_index(tuple(codes.T.astype(np.int64)), sizes)


def last_level_costs(quantizer, X, codes):
    """Return what is left of each item before the last level, and the last codebook."""
    rest = X - sum(book[codes[:, level]] for level, book in enumerate(quantizer.codebooks[:-1]))
    return rest, quantizer.codebooks[-1]


def by_prefix(quantizer, X, codes, choose):
    """Let ``choose(cost, own)`` give the items of each prefix their last codes; others overflow to a near prefix."""
    sizes = quantizer.codebook_sizes
    rest, book = last_level_costs(quantizer, X, codes)
    prefixes = keys_of(codes[:, :-1], sizes[:-1])
    order = np.argsort(prefixes, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(prefixes[order]) != 0])
    result, overflow = codes.copy(), []
    for members in np.split(order, begins[1:]):
        members, left = members[: sizes[-1]], members[sizes[-1] :]
        cost = ((rest[members][:, None] - book[None]) ** 2).sum(axis=2) if len(members) > 1 else None
        if cost is not None:
            result[members, -1] = choose(cost, codes[members, -1])
        overflow.append(left)
    return place_rest(quantizer, X, result, np.concatenate(overflow))


def place_rest(quantizer, X, result, rows):
    """Give rows the first free ID of ever longer beam searches, then any one that is free."""
    sizes = quantizer.codebook_sizes
    keys = keys_of(result, sizes)
    used = set(np.delete(keys, rows).tolist())
    for row in rows.tolist():
        for count in (64, 1024, 8192):
            listed, cost = quantizer.candidates(X[row : row + 1], count=count, beam=max(count // 2, 8))
            listed = listed[0][np.isfinite(cost[0])]
            free = [at for at, key in enumerate(keys_of(listed, sizes).tolist()) if key not in used]
            if free:
                break
        else:
            listed = np.array([np.unravel_index(next(k for k in range(np.prod(sizes)) if k not in used), sizes)])
            free = [0]
        result[row] = listed[free[0]]
        used.add(int(keys_of(result[row : row + 1], sizes)[0]))
    return result


def nearest_free(cost, own):
    """The first item on an ID keeps it; later ones take the nearest last code that nobody has."""
    taken = np.zeros(cost.shape[1], dtype=bool)
    chosen = np.full(len(own), -1)
    for item, code in enumerate(own):
        if not taken[code]:
            chosen[item] = code
            taken[code] = True
    for item in np.flatnonzero(chosen < 0):
        chosen[item] = np.where(taken, np.inf, cost[item]).argmin()
        taken[chosen[item]] = True
    return chosen


def random_free(cost, own):
    """The first item on an ID keeps it; later ones take any last code that nobody has."""
    rng = np.random.default_rng(len(own))
    _, first = np.unique(own, return_index=True)
    chosen, free = own.copy(), np.setdiff1d(np.arange(cost.shape[1]), own)
    others = np.setdiff1d(np.arange(len(own)), first)
    chosen[others] = rng.permutation(free)[: len(others)]
    return chosen


def first_fit(quantizer, X, codes):
    """Take the first free ID of each item's beam search, one item after the other."""
    listed, cost = quantizer.candidates(X, count=N_CANDIDATES, beam=N_CANDIDATES // 2)
    keys = keys_of(listed.reshape(-1, codes.shape[1]), quantizer.codebook_sizes).reshape(len(X), -1)
    used, result, left = set(), codes.copy(), []
    for row, own in enumerate(keys.tolist()):
        at = next((at for at, key in enumerate(own) if key not in used and np.isfinite(cost[row, at])), None)
        if at is None:
            left.append(row)
        else:
            result[row] = listed[row, at]
            used.add(own[at])
    return place_rest(quantizer, X, result, np.array(left, dtype=np.int64))


def least_matching(start, stop, column, cost, n_columns):
    """Solve the assignment of items to columns by scipy; returns the least total cost."""
    lengths = stop - start
    rows = np.repeat(np.arange(len(start)), lengths)
    # scipy takes zeros for missing edges, and drops them.
    graph = csr_array((cost.astype(np.float64) + 1.0, (rows, column)), shape=(len(start), n_columns))
    matched = min_weight_full_bipartite_matching(graph)
    return float(graph[matched].sum() - len(start))


RIVALS = {
    "nearest free leaf in the prefix": lambda q, X, codes: by_prefix(q, X, codes, nearest_free),
    "optimal assignment per prefix": lambda q, X, codes: by_prefix(
        q, X, codes, lambda cost, own: linear_sum_assignment(cost)[1]
    ),
    "first fit over beam candidates": first_fit,
    "GenSAR's Sinkhorn": lambda q, X, codes: semid.resolve(q, X, codes, policy="sinkhorn").codes,
    "random free leaf in the prefix": lambda q, X, codes: by_prefix(q, X, codes, random_free),
}
