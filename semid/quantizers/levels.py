"""The level recursion: start, Lloyd, refine jointly, subtract, and the same for a stream of batches."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from semid._arrays import Int64Array, Labels, Matrix
from semid._threads import for_each_block
from semid.kernels.encode import subtract_rows
from semid.quantizers.learnt import Learnt
from semid.quantizers.lloyd import (
    assign_clusters,
    check_code_capacity,
    cluster_means,
    run_balanced,
    run_lloyd,
    run_lloyd_by_halves,
    worst_served,
)
from semid.quantizers.search import build_tables, search_codes
from semid.quantizers.starts import STARTS, first_start, separating_start

__all__ = [
    "absorb_batch",
    "absorb_level",
    "absorb_levels",
    "fit_codebooks",
    "fit_levels",
    "refine_codebooks",
    "refine_jointly",
    "train_levels",
]


class FitSettings(Protocol):
    """Parameters of a quantizer that bear on its training."""

    init: str
    max_iter: int
    capacity: int | None
    progress: bool


def train_levels(settings: FitSettings, sample: Matrix, sizes: tuple[int, ...], rng: np.random.Generator) -> Learnt:
    """Learn one codebook per level from a sample, which is overwritten.

    Raises
    ------
    InvalidValueError
        If ``settings.capacity`` cannot hold all rows.
    """
    capacity = check_code_capacity(settings.capacity, len(sample), sizes)
    return fit_levels(
        sample,
        sizes,
        init=settings.init,
        max_iter=settings.max_iter,
        rng=rng,
        capacity=capacity,
        progress=settings.progress,
    )


def absorb_levels(batch: Matrix, learnt: Learnt) -> Learnt:
    """Return what is learnt after one more batch, which is overwritten."""
    codebooks, counts = absorb_batch(batch, learnt.codebooks, learnt.counts)
    return learnt._replace(codebooks=codebooks, counts=counts)


# On 100k clustered embeddings of 384 dimensions, 3 x 256 codes: distortion over that of scikit-learn per level,
# collisions and perplexity of the later levels, for seeds 0, 1, 2. After 25 steps a level and 6 rounds 1.009, 13.3 %,
# 221/241; 1.009, 13.7 %, 217/243; 1.012, 13.3 %, 226/242. After 15 and 7, which cost as much, 1.009, 13.6 %, 221/238;
# 1.007, 13.9 %, 222/239; 1.008, 13.9 %, 226/241. So joint rounds are worth more than steps of one level; but fewer
# steps still (8: 1.013), or half of the rows for the starts and the first rounds (1.018), are no way to save time.
ROUNDS = 7
STEPS_BEFORE_ROUNDS = 15
LAST_STEPS = 5
BALANCED_STEPS = 10


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


# So few that a block stays in the cache while the centroids of all levels are added to it.
BLOCK_ROWS = 512
# At 100k x 384, 3 x 256 codes: beams of 2 or 4 in the first round leave 0.05 % less distortion for as many collisions;
# in two rounds no less. Codes of a beam to the end would suit greedy encoding worse.
BEAM = 2
# Share of the distortion, per unit of the logarithm of a code's share. 0.02 makes the perplexity of the last level 243
# instead of 238 and saves 0.3 points of collisions, for 0.07 % more distortion; 0.08 is too much on 12k real items:
# that perplexity falls from 239 to 201.
HANDICAP = 0.03


def refine_jointly(
    residual: Matrix, codebooks: Sequence[Matrix], labels: Sequence[Labels], *, rounds: int
) -> tuple[tuple[Matrix, ...], tuple[Labels, ...]]:
    """Return codebooks of less distortion and the codes that a greedy search gives with them.

    Each round refines the codebooks for the codes, then takes the codes anew. The first round takes them by a beam
    search, as codes that look ahead lead to better codebooks; the last one as an encoder will; those between give
    every code a handicap that grows with its share of the rows (entropy-constrained vector quantization, Chou,
    Lookabaugh and Gray 1989), which evens out the codes for less distortion than any start does.

    Parameters
    ----------
    residual : ndarray of shape (n_items, dim), dtype float32
        What all levels leave over. Overwritten by what they leave over afterwards.
    codebooks : sequence of ndarray of shape (codebook_size, dim), dtype float32
    labels : sequence of ndarray of shape (n_items,), dtype int32
        Codes of each level.
    rounds : int
    """
    books, codes = tuple(codebooks), tuple(labels)
    handicaps = [
        share_handicaps(residual, level_codes, len(book)) for level_codes, book in zip(codes, books, strict=True)
    ]
    for turn in range(rounds):
        books = refine_codebooks(residual, books, codes)
        subtract_centroids(residual, [-book for book in books], codes)
        if turn == rounds - 1:
            codes = tuple(take_nearest(residual, book) for book in books)
        elif turn == 0:
            codes = take_by_beam(residual, books)
        else:
            codes = tuple(take_nearest(residual, book, at) for book, at in zip(books, handicaps, strict=True))
    return books, codes


def share_handicaps(residual: Matrix, labels: Labels, codebook_size: int) -> Matrix:
    """Return what a code costs beyond its distance, by the logarithm of its share; shape (codebook_size,).

    The shares are those of the codes given, once and for all: following them from round to round overshoots, and from a
    `HANDICAP` of 0.05 on leaves ever fewer codes in use.
    """
    sizes = np.bincount(labels, minlength=codebook_size)
    distortion = np.einsum("nd,nd->", residual, residual, dtype=np.float64) / len(residual)
    return np.asarray(HANDICAP * distortion * np.log(np.maximum(sizes, 1) / sizes.mean()), np.float32)


def take_nearest(residual: Matrix, codebook: Matrix, handicap: Matrix | None = None) -> Labels:
    """Subtract the nearest centroid of each row, in place, and return the codes."""
    # Distances to centred points keep more digits, and a first level may lie far from the origin.
    shift = codebook.mean(axis=0, dtype=np.float64).astype(np.float32)
    residual -= shift
    centroids = codebook - shift
    labels, _ = assign_clusters(residual, centroids, handicap=handicap)
    subtract_centroids(residual, [centroids], [labels])
    return labels


def take_by_beam(residual: Matrix, codebooks: Sequence[Matrix]) -> tuple[Labels, ...]:
    """Subtract the centroids that a beam search finds for each row, in place, and return the codes of each level."""
    found, _ = search_codes(residual, build_tables(codebooks), beam=BEAM, count=1, bar=False)
    codes = tuple(np.ascontiguousarray(column, np.int32) for column in found[:, 0].T)
    subtract_centroids(residual, codebooks, codes)
    return codes


def refine_codebooks(
    residual: Matrix, codebooks: Sequence[Matrix], labels: Sequence[Labels], *, sweeps: int = 1
) -> tuple[Matrix, ...]:
    """Return codebooks of less distortion for the same codes, by alternating least squares.

    The centroids of a level were the means of what the levels before it left over, and know nothing of the later ones.
    Given all codes, the best centroid of a level is the mean of what all other levels leave over; this is the codebook
    update of additive quantization (Babenko and Lempitsky 2014, section 3). It costs no distances.

    Parameters
    ----------
    residual : ndarray of shape (n_items, dim), dtype float32
        What all levels leave over. Overwritten by what they leave over afterwards.
    codebooks : sequence of ndarray of shape (codebook_size, dim), dtype float32
    labels : sequence of ndarray of shape (n_items,), dtype int32
        Codes of each level.
    sweeps : int, default=1
        Passes over the levels.
    """
    books = list(codebooks)
    for _ in range(sweeps):
        for level, codes in enumerate(labels):
            # The mean of what all other levels leave over is the centroid plus the mean of what all levels leave over.
            moves, _ = cluster_means(residual, codes, len(books[level]))
            books[level] = books[level] + moves
            subtract_centroids(residual, [moves], [codes])
    return tuple(books)


def subtract_centroids(residual: Matrix, codebooks: Sequence[Matrix], labels: Sequence[Labels]) -> None:
    """Subtract each row's centroids of some levels, in place and by blocks."""

    def subtract_block(first: int, last: int) -> None:
        for book, codes in zip(codebooks, labels, strict=True):
            subtract_rows(residual[first:last], book, codes[first:last])

    for_each_block(subtract_block, len(residual), BLOCK_ROWS)


# A code that has less than this share of the rows of an average code is moved to where it is needed.
IDLE_SHARE = 0.01


def absorb_batch(
    batch: Matrix, codebooks: Sequence[Matrix], counts: Sequence[Int64Array]
) -> tuple[tuple[Matrix, ...], tuple[Int64Array, ...]]:
    """Return the codebooks of residual levels after a batch of embeddings, and how many rows stand behind each code.

    Parameters
    ----------
    batch : ndarray of shape (n_rows, dim), dtype float32
        Overwritten by what the new codebooks leave over.
    codebooks : sequence of ndarray of shape (codebook_size, dim), dtype float32
    counts : sequence of ndarray of shape (codebook_size,), dtype int64
    """
    books, sizes = [], []
    for codebook, count in zip(codebooks, counts, strict=True):
        centroids, labels, total = absorb_level(batch, codebook, count)
        subtract_centroids(batch, [centroids], [labels])
        books.append(centroids)
        sizes.append(total)
    return tuple(books), tuple(sizes)


def absorb_level(x: Matrix, codebook: Matrix, counts: Int64Array) -> tuple[Matrix, npt.NDArray[np.int32], Int64Array]:
    """Return one codebook, the nearest codes of the rows before it moved, and its counts, after a batch.

    A centroid becomes the mean of the rows it has taken so far, this batch among them (mini-batch k-means, Sculley
    2010). A code with less than 1 % of an average code's rows moves to the row that is served worst.
    """
    shift = codebook.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = x - shift
    labels, cost = assign_clusters(centred, codebook - shift, np.einsum("nd,nd->n", centred, centred))
    means, sizes = cluster_means(x, labels, len(codebook))
    total = counts + sizes
    share = (sizes / np.maximum(total, 1)).astype(np.float32)[:, None]
    centroids = codebook + share * (means - codebook)
    idle = np.flatnonzero(total < IDLE_SHARE * total.mean())
    worst = worst_served(x, cost, len(idle)) if len(idle) else idle
    revived = idle[: len(worst)]
    centroids[revived] = x[worst]
    total[revived] = 1
    return centroids, labels, total
