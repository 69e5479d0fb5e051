"""Slow, obvious references: brute force, float64, Python dicts. Too slow to use, too plain to be wrong."""

import numpy as np


def children_oracle(codes, prefix):
    """Scan the whole catalogue for the codes that follow a prefix."""
    depth = len(prefix)
    return {int(sid[depth]) for sid in codes if depth < len(sid) and tuple(sid[:depth]) == tuple(prefix)}


def nodes_oracle(codes, depth):
    """Number the prefixes of one length in lexicographic order."""
    return {prefix: node for node, prefix in enumerate(sorted({tuple(int(c) for c in sid[:depth]) for sid in codes}))}


def mask_oracle(codes, prefixes, scores, tokens):
    """Copy only the scores that lead to an item."""
    out = np.full_like(scores, -np.inf)
    for row, prefix in enumerate(prefixes):
        for code in children_oracle(codes, tuple(prefix)):
            out[row, tokens[code]] = scores[row, tokens[code]]
    return out


def select_oracle(codes, prefixes, log_probs, start, k, exclude=()):
    """Score every continuation of one request's beams; best first, ties to the lower beam, then the lower code.

    `prefixes` is a list with one tuple per beam, None for a dead one. Returns (score, beam, code, prefix) tuples.
    """
    rows = sorted({tuple(int(c) for c in sid) for sid in codes})
    alive = [sid for rank, sid in enumerate(rows) if rank not in set(exclude)]
    found = []
    for beam, prefix in enumerate(prefixes):
        if prefix is None:
            continue
        for code in sorted(children_oracle(alive, prefix)):
            score = np.float32(start[beam]) + np.float32(log_probs[beam, code])
            found.append((score, beam, code, (*prefix, code)))
    return sorted(found, key=lambda entry: -entry[0])[:k]
