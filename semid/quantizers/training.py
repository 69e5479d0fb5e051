"""Codebooks of residual k-means: each level is a k-means on what the levels before left over."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from semid._arrays import Int64Array, Labels, Matrix
from semid.quantizers.balance import run_balanced
from semid.quantizers.lloyd import assign_clusters, run_lloyd, run_lloyd_by_halves
from semid.quantizers.refine import refine_jointly, subtract_centroids
from semid.quantizers.sampling import sample_rows
from semid.quantizers.starts import STARTS, first_start, separating_start

__all__ = ["Learnt", "fit_codebooks", "fit_levels", "sample_rows"]

# On 100k clustered embeddings of 384 dimensions, 3 x 256 codes: distortion over that of scikit-learn per level,
# collisions and perplexity of the later levels, for seeds 0, 1, 2. After 25 steps a level and 6 rounds 1.009, 13.3 %,
# 221/241; 1.009, 13.7 %, 217/243; 1.012, 13.3 %, 226/242. After 15 and 7, which cost as much, 1.009, 13.6 %, 221/238;
# 1.007, 13.9 %, 222/239; 1.008, 13.9 %, 226/241. So joint rounds are worth more than steps of one level; but fewer
# steps still (8: 1.013), or half of the rows for the starts and the first rounds (1.018), are no way to save time.
ROUNDS = 7
STEPS_BEFORE_ROUNDS = 15
LAST_STEPS = 5
BALANCED_STEPS = 10


class Learnt(NamedTuple):
    """What a fit of levels gives."""

    codebooks: tuple[Matrix, ...]
    """Per level, shape (codebook_size, dim of the level), dtype float32."""
    counts: tuple[Int64Array, ...]
    """Per level, how many training rows stand behind each code; shape (codebook_size,)."""
    n_iter: int = 0
    """Most Lloyd steps that a level took."""
    rotation: Matrix | None = None
    """Of product quantizers: what embeddings are multiplied by first, shape (dim, dim); None for nothing."""
    columns: tuple[slice, ...] | None = None
    """Of product quantizers: the columns of each level; None where every level sees all."""


def fit_codebooks(
    residual: Matrix,
    codebook_sizes: Sequence[int],
    *,
    init: str,
    max_iter: int,
    rng: np.random.Generator,
    more_follow: bool = False,
    progress: bool = False,
) -> tuple[tuple[Matrix, ...], int]:
    """Learn one codebook per level, as `fit_levels` does; returns the codebooks and the most Lloyd steps of a level."""
    learnt = fit_levels(
        residual, codebook_sizes, init=init, max_iter=max_iter, rng=rng, more_follow=more_follow, progress=progress
    )
    return learnt.codebooks, learnt.n_iter


def fit_levels(
    residual: Matrix,
    codebook_sizes: Sequence[int],
    *,
    init: str,
    max_iter: int,
    rng: np.random.Generator,
    capacity: int | None = None,
    more_follow: bool = False,
    progress: bool = False,
) -> Learnt:
    """Learn one codebook per level, then refine all of them together.

    Parameters
    ----------
    residual : ndarray of shape (n_items, dim), dtype float32
        The training rows. Overwritten by what all levels together leave over.
    codebook_sizes : sequence of int
    init : {"progressive", "k-means++", "random"}
    max_iter : int
        Most Lloyd steps per level.
    rng : numpy.random.Generator
    capacity : int, optional
        Move the centroids of each level to the means of clusters of at most so many rows. Then there is no refinement.
    more_follow : bool, default=False
        Whether others will quantize what is left over; else "progressive" lets the last level tell items apart.
    progress : bool, default=False
        Show a bar over the levels, on a terminal only.

    Returns
    -------
    learnt : Learnt
        Where a level has fewer distinct residuals than codes, the spare codes are zero vectors: they add nothing.
    """
    codebooks: list[Matrix] = []
    codes: list[Labels] = []
    n_iter, exact = 0, False
    refine = len(codebook_sizes) > 1 and capacity is None
    for level, size in enumerate(tqdm(codebook_sizes, desc="levels", disable=None if progress else True)):
        distinct = distinct_rows(residual, limit=size)
        if len(distinct) <= size:
            codebook = np.zeros((size, residual.shape[1]), np.float32)
            codebook[: len(distinct)] = distinct
            labels, _ = assign_clusters(residual, codebook)
            residual[:] = 0.0
            exact = True
        else:
            # Distances to centred points keep more digits, and level 0 may lie far from the origin.
            mean = residual.mean(axis=0, dtype=np.float64).astype(np.float32)
            residual -= mean
            start = STARTS[init]
            separate = init == "progressive" and not more_follow and 0 < level == len(codebook_sizes) - 1
            if separate:
                start = separating_start
            elif init == "progressive" and level == 0:
                start = first_start
            begin = start(residual, size, rng)
            if separate:
                centroids, labels, steps = run_lloyd(residual, begin, max_iter=min(max_iter, LAST_STEPS))
            elif refine and init == "progressive":
                most = min(max_iter, STEPS_BEFORE_ROUNDS)
                centroids, labels, steps = run_lloyd_by_halves(residual, begin, max_iter=most)
            else:
                centroids, labels, steps = run_lloyd_by_halves(residual, begin, max_iter=max_iter)
            if capacity is not None:
                centroids = run_balanced(residual, centroids, capacity=capacity, max_iter=BALANCED_STEPS)
                labels, _ = assign_clusters(residual, centroids)
            n_iter = max(n_iter, steps)
            subtract_centroids(residual, [centroids], [labels])
            codebook = centroids + mean
        codebooks.append(codebook)
        codes.append(labels)
    if refine and not exact:
        refined, labels_of = refine_jointly(residual, codebooks, codes, rounds=ROUNDS)
        codebooks, codes = list(refined), list(labels_of)
    counts = tuple(np.bincount(labels, minlength=len(book)) for labels, book in zip(codes, codebooks, strict=True))
    return Learnt(tuple(codebooks), counts, n_iter)


def distinct_rows(x: Matrix, *, limit: int) -> Matrix:
    """Return the distinct rows in order of appearance, and stop looking after ``limit + 1`` of them."""
    first: dict[bytes, int] = {}
    for row in range(len(x)):
        first.setdefault((x[row] + 0.0).tobytes(), row)  # + 0.0 makes -0.0 and 0.0 one
        if len(first) > limit:
            break
    return x[list(first.values())]
