"""Centroids of all levels re-estimated together: each level on what all others leave over."""

from collections.abc import Sequence

import numpy as np

from semid._arrays import Labels, Matrix
from semid._threads import for_each_block
from semid.kernels.encode import subtract_rows
from semid.quantizers.lloyd import assign_clusters, cluster_means
from semid.quantizers.search import build_tables, search_codes

__all__ = ["refine_codebooks", "refine_jointly", "subtract_centroids"]

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
