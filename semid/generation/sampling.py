"""Items drawn without replacement: a beam search whose scores are perturbed by Gumbel noise.

Kool, van Hoof and Welling, "Stochastic Beams and Where to Find Them" (arXiv:1903.06059). The k largest of
``log p(item) + noise`` are k draws without replacement, in the order of the draws (section 2). The noise of an item
need not be known to find them: that of a prefix is the largest below it, and a prefix hands it down to its children,
the largest of whose perturbed values must be its own (section 3). So k beams find the k items, and none is lost.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from semid._arrays import DoubleArray, IntArray
from semid._checks import check_count
from semid.errors import InvalidValueError
from semid.trie.selection import Selection

__all__ = ["RowSeeds", "draw", "row_keys", "row_seeds"]

KeyArray = npt.NDArray[np.uint64]
RowSeeds = int | Sequence[int | Sequence[int]] | None

# The increment and the multipliers of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
# generators", OOPSLA 2014).
GAMMA, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Draw(NamedTuple):
    """What one step draws: arrays of shape (requests, k), in the order of the draws.

    Attributes
    ----------
    rows, codes, nodes : ndarray, dtype int64
        As of `Selection`, but rows and codes are 0 in empty slots.
    log_probs : ndarray, dtype float64
        Log-probability of the prefix among those that lead to items.
    perturbed : ndarray, dtype float64
        The same plus noise; -inf in empty slots.
    """

    rows: IntArray
    codes: IntArray
    nodes: IntArray
    log_probs: DoubleArray
    perturbed: DoubleArray


def draw(children: Selection, log_probs: DoubleArray, perturbed: DoubleArray, keys: KeyArray, *, k: int) -> Draw:
    """Draw `k` children of the beams of each request without replacement: one turn of the loop of algorithm 1.

    Parameters
    ----------
    children : Selection of shape (requests, n_children)
        All children of the beams, with their logits as scores, in at least `k` slots.
    log_probs, perturbed : ndarray of shape (requests, beams), dtype float64
        Those of the beams; zeros for the root.
    keys : ndarray of shape (requests,), dtype uint64
        The noise of a child is a function of this key and of its node. It does not depend on which other children there
        are, and so more beams draw the same items and then some.
    k : int
    """
    requests, beams = log_probs.shape
    there, rows, codes = children.nodes >= 0, np.maximum(children.rows, 0), np.maximum(children.codes, 0)
    beam, n_beams = np.arange(requests)[:, None] * beams + rows, requests * beams
    with np.errstate(invalid="ignore", divide="ignore"):  # in empty slots, which are overwritten
        logits = np.where(there, children.scores, -np.inf).astype(np.float64)
        largest = _largest(logits, beam, n_beams)
        total = np.bincount(beam.ravel(), np.exp(logits - largest[beam]).ravel(), n_beams)
        drawn = log_probs.reshape(-1)[beam] + logits - (largest + np.log(total))[beam]
        free = drawn - np.log(-np.log(_uniform(keys[:, None], np.maximum(children.nodes, 0))))
        # Shifted so that the largest of a beam's children is the beam's own, in the stable form of appendix B.3.
        own = perturbed.reshape(-1)[beam]
        gap = own - free + _log1mexp(free - _largest(free, beam, n_beams)[beam])
        shifted = own - np.maximum(gap, 0) - np.log1p(np.exp(-np.abs(gap)))
    shifted = np.where(there, shifted, -np.inf)
    best = np.argsort(-shifted, axis=1, kind="stable")[:, :k]
    return Draw(*(np.take_along_axis(a, best, axis=1) for a in (rows, codes, children.nodes, drawn, shifted)))


def row_seeds(seed: RowSeeds, batch: int) -> list[tuple[int, ...]]:
    """Return the seed of each request: given for each, or made of one seed and the request's place in the batch.

    None takes a seed from the generator of torch, so that `torch.manual_seed` and `transformers.set_seed` count.
    """
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    if isinstance(seed, torch.Tensor | np.ndarray):
        seed = seed.tolist()
    if not isinstance(seed, list | tuple):
        return [(_check_seed(seed), row) for row in range(batch)]
    if len(seed) != batch:
        raise InvalidValueError(
            f"seed has a wrong length: expected {batch}, one per row, got {len(seed)}. "
            "Give one seed for all rows or one per row."
        )
    return [tuple(map(_check_seed, one if isinstance(one, list | tuple) else (one,))) for one in seed]


def row_keys(seeds: list[tuple[int, ...]], n_levels: int) -> KeyArray:
    """Return a key for each request and level, shape (batch, n_levels)."""
    return np.stack([np.random.SeedSequence(seed).generate_state(n_levels, np.uint64) for seed in seeds])


def _uniform(keys: KeyArray, numbers: IntArray) -> DoubleArray:
    """Return a number between 0 and 1, both excluded: element `number` of the SplitMix64 sequence that starts at a key.

    A generator with a state would have to go through the elements before.
    """
    with np.errstate(over="ignore"):  # sums and products are modulo 2**64
        mixed = keys + (numbers.astype(np.uint64) + np.uint64(1)) * GAMMA
        mixed = (mixed ^ (mixed >> np.uint64(30))) * FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * SECOND
    bits: KeyArray = (mixed ^ (mixed >> np.uint64(31))) >> np.uint64(12)
    return bits.astype(np.float64) * 2.0**-52 + 2.0**-53


def _largest(values: DoubleArray, groups: IntArray, n_groups: int) -> DoubleArray:
    """Return the largest value of each group."""
    largest = np.full(n_groups, -np.inf)
    np.maximum.at(largest, groups.ravel(), values.ravel())
    return largest


def _log1mexp(x: DoubleArray) -> DoubleArray:
    """Return ``log(1 - exp(x))`` for x of at most 0 (Mächler, "Accurately computing log(1 - exp(-|a|))", 2012)."""
    return np.where(x > -np.log(2), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


def _check_seed(seed: Any) -> int:
    return check_count(seed, "seed", least=0, remedy="Give one integer for all rows or one per row.")
