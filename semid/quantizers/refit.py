"""Codebooks of least distortion for given codes, from sums that one pass over the items gives."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
from scipy import sparse

from semid._arrays import FloatArray, IntArray, Matrix
from semid.errors import InvalidValueError
from semid.quantizers.learnt import Learnt, LearntViews, rotate

__all__ = ["CodeSums", "refit_levels", "refit_views"]

# A sweep that saves no larger share of the squared distances than this is the last one.
TOLERANCE = 1e-7
SWEEPS = 200


@final
class CodeSums:
    """Sums of embeddings per code, and how often the codes of two levels meet: all that least squares need.

    The squared distances of items x_i from the sums of their centroids are least where, for every code k of level l,

        n_lk c_lk = sum of x_i over the items with that code - sum_(m != l) sum_j n_lkmj c_mj,

    with the number n_lkmj of items that have code k in level l and code j in level m; the codebook update of additive
    quantization (Babenko and Lempitsky 2014, section 3), without the embeddings in memory.

    Parameters
    ----------
    codebook_sizes : sequence of int
    dim : int
    """

    def __init__(self, codebook_sizes: Sequence[int], dim: int) -> None:
        self._sizes = tuple(codebook_sizes)
        self.sums = [np.zeros((size, dim)) for size in self._sizes]
        self.counts = [np.zeros(size, np.int64) for size in self._sizes]
        self._squares = 0.0
        self._together: dict[tuple[int, int], Any] = {}

    def add(self, block: FloatArray, codes: IntArray) -> None:
        """Count items, of which `block` has the embeddings, shape (n_rows, dim), and `codes` a row each."""
        block = np.asarray(block, np.float64)
        self._squares += float(np.einsum("nd,nd->", block, block))
        rows = np.arange(len(block) + 1)
        chosen = [
            sparse.csr_array((np.ones(len(block)), codes[:, level].astype(np.int64), rows), (len(block), size))
            for level, size in enumerate(self._sizes)
        ]
        for level, one in enumerate(chosen):
            self.sums[level] += one.T @ block
            self.counts[level] += np.bincount(codes[:, level], minlength=self._sizes[level])
            for other in range(level):
                met = (one.T @ chosen[other]).tocsr()
                known = self._together.get((level, other))
                self._together[level, other] = met if known is None else known + met

    def least_squares(self, codebooks: Sequence[Matrix]) -> tuple[Matrix, ...]:
        """Return the codebooks of least distortion for the codes, level after level from the ones given.

        A code that no item has keeps its centroid. Where several codebooks are equally good, as when one level takes
        from another what it gives, those near the ones given come out.
        """
        books = [np.array(book, np.float64) for book in codebooks]
        together = self._together | {(other, level): met.T.tocsr() for (level, other), met in self._together.items()}
        for _ in range(SWEEPS):
            saved = 0.0
            for level, (sums, counts) in enumerate(zip(self.sums, self.counts, strict=True)):
                used = counts > 0
                others = [together[level, other] @ books[other] for other in range(len(books)) if other != level]
                best = (sums - sum(others))[used] / counts[used, None]
                moves = best - books[level][used]
                saved += float(counts[used] @ np.einsum("kd,kd->k", moves, moves))
                books[level][used] = best
            if saved <= TOLERANCE * self._squares:
                break
        return tuple(book.astype(np.float32) for book in books)


def refit_levels(learnt: Learnt, blocks: Iterable[Matrix], codes: IntArray) -> Learnt:
    """Return the least-squares codebooks for given codes, and the counts of these.

    Parameters
    ----------
    learnt : Learnt
    blocks : iterable of ndarray of shape (n_rows, dim), dtype float32
        The embeddings, in order.
    codes : ndarray of shape (n_items, n_levels), unsigned integer dtype

    Raises
    ------
    InvalidValueError
        If there are more or fewer embeddings than codes.
    """
    # Levels on columns of their own are problems of their own.
    each = range(len(learnt.codebooks))
    groups = [each] if learnt.columns is None else [range(level, level + 1) for level in each]
    columns = [slice(0, None)] if learnt.columns is None else learnt.columns
    books = [[learnt.codebooks[level] for level in group] for group in groups]
    every = [CodeSums([len(book) for book in group], group[0].shape[1]) for group in books]
    for block, rows in pairs(blocks, codes):
        rotated = rotate(block, learnt.rotation)
        for sums, group, part in zip(every, groups, columns, strict=True):
            sums.add(rotated[:, part], rows[:, group.start : group.stop])
    best = [sums.least_squares(group) for sums, group in zip(every, books, strict=True)]
    return learnt._replace(
        codebooks=tuple(book for group in best for book in group),
        counts=tuple(count for sums in every for count in sums.counts),
    )


def refit_views(learnt: LearntViews, blocks: Iterable[Matrix], codes: Mapping[str, IntArray]) -> LearntViews:
    """Do what `refit_levels` does for shared and specific levels; each view is a problem of its own.

    Parameters
    ----------
    learnt : LearntViews
    blocks : iterable of ndarray of shape (n_rows, dim of all views), dtype float32
        The standardised views side by side, in order.
    codes : mapping of view to ndarray of shape (n_items, n_levels), unsigned integer dtype
    """
    n_shared = len(learnt.shared.codebooks)
    books = {
        view: [*(book[:, own] for book in learnt.shared.codebooks), *learnt.specific[view].codebooks]
        for view, own in learnt.columns.items()
    }
    every = {view: CodeSums([len(book) for book in group], group[0].shape[1]) for view, group in books.items()}
    for block, rows in pairs(blocks, np.concatenate(list(codes.values()), axis=1)):
        of_views = np.split(rows, len(codes), axis=1)
        for view, of_view in zip(codes, of_views, strict=True):
            every[view].add(block[:, learnt.columns[view]], of_view)
    best = {view: sums.least_squares(books[view]) for view, sums in every.items()}
    shared = [np.concatenate([best[view][level] for view in learnt.columns], axis=1) for level in range(n_shared)]
    counts = {view: tuple(sums.counts) for view, sums in every.items()}
    first = next(iter(learnt.columns))
    return learnt._replace(
        shared=learnt.shared._replace(codebooks=tuple(shared), counts=counts[first][:n_shared]),
        specific={
            view: own._replace(codebooks=best[view][n_shared:], counts=counts[view][n_shared:])
            for view, own in learnt.specific.items()
        },
    )


def pairs(blocks: Iterable[Matrix], codes: IntArray) -> Iterator[tuple[Matrix, IntArray]]:
    """Yield blocks of embeddings, each with its rows of codes; raise if one of the two ends before the other."""
    n_items = 0
    for block in blocks:
        n_items += len(block)
        if n_items > len(codes):
            break
        yield block, codes[n_items - len(block) : n_items]
    if n_items != len(codes):
        got = f"{n_items} or more" if n_items > len(codes) else n_items
        raise InvalidValueError(
            f"codes and X disagree: expected {len(codes)} embeddings, got {got}. Pass one row of codes per item."
        )
