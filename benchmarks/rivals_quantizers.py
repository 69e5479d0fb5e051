"""Residual quantizers that people use today, each as fast as we can call it: faiss, scikit-learn, semantic-id.

A fit returns the codebooks, one (codebook_size, dim) array per level; an encoder takes rows and returns codes. Every
library's own default of 25 Lloyd steps (faiss) or one start (`n_init=1`, scikit-learn and semantic-id) is kept, so that
the libraries differ in how they work and not in how much work they were told to do.
"""

import functools
import importlib
import importlib.util
import os
import sys

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import pairwise_distances_argmin
from threadpoolctl import threadpool_info, threadpool_limits

__all__ = ["FITS", "SLOW_FITS", "encoders", "missing", "use_threads"]

PACKAGE_OF = {"faiss": "faiss", "semantic-id": "semantic_id"}
# Rows a rival takes at once where it keeps a copy of the residuals: larger copies leave the caches.
BLOCK_ROWS = 16_384


def missing(library):
    """Return whether a rival is not installed; the bench extra installs all of them."""
    return importlib.util.find_spec(PACKAGE_OF[library]) is None


def use_threads(n_threads):
    """Limit BLAS and OpenMP, which all rivals and semid work with, to `n_threads`; a context manager."""
    if not missing("faiss"):
        load_faiss().omp_set_num_threads(n_threads)
    return threadpool_limits(n_threads)


def load_faiss():
    """Import faiss with its BLAS on the widest instructions that NumPy's has found.

    The wheel brings OpenBLAS 0.3.15, which does not know newer processors and falls back to kernels of 2007 on them: on
    an AMD EPYC (Zen 5) a fit then takes over three times as long.
    """
    if "faiss" not in sys.modules and "OPENBLAS_CORETYPE" not in os.environ:
        found = [lib for lib in threadpool_info() if "numpy" in lib["filepath"] and "architecture" in lib]
        if found:
            os.environ["OPENBLAS_CORETYPE"] = found[0]["architecture"]
            try:
                return importlib.import_module("faiss")
            finally:
                del os.environ["OPENBLAS_CORETYPE"]
    return importlib.import_module("faiss")


def _residual(X, n_levels, cluster):
    """Fit level by level: ``cluster(residual, level) -> (centroids, labels)``."""
    residual, codebooks = X.copy(), []
    for level in range(n_levels):
        centroids, labels = cluster(residual, level)
        codebooks.append(np.asarray(centroids, np.float32))
        residual -= codebooks[-1][labels]
    return codebooks


def fit_faiss_kmeans(X, n_levels, codebook_size):
    faiss = load_faiss()

    def cluster(residual, level):
        kmeans = faiss.Kmeans(X.shape[1], codebook_size, seed=1234 + level)
        # It samples 256 rows per centroid by itself, and warns below 39.
        kmeans.cp.min_points_per_centroid = 1
        kmeans.train(residual)
        return kmeans.centroids, kmeans.assign(residual)[1]

    return _residual(X, n_levels, cluster)


def fit_faiss_rq(X, n_levels, codebook_size):
    """Fit faiss's ResidualQuantizer with one beam; with its default of five it takes twice the time and is worse."""
    faiss = load_faiss()

    rq = faiss.ResidualQuantizer(X.shape[1], n_levels, _bits(codebook_size))
    rq.max_beam_size = 1
    rq.train(X)
    return list(faiss.vector_to_array(rq.codebooks).reshape(n_levels, codebook_size, -1))


def fit_minibatch(X, n_levels, codebook_size, **settings):
    """Fit with settings of MiniBatchKMeans: none are its defaults, batches of 1,024 and an early stop."""

    def cluster(residual, level):
        kmeans = MiniBatchKMeans(codebook_size, n_init=1, random_state=level, **settings).fit(residual)
        return kmeans.cluster_centers_, kmeans.labels_

    return _residual(X, n_levels, cluster)


# Batches that keep BLAS busy; and 25 passes without an early stop, which end at about the distortion of full Lloyd.
fit_large_batches = functools.partial(fit_minibatch, batch_size=4096)
fit_minibatch_25 = functools.partial(fit_minibatch, batch_size=4096, max_iter=25, max_no_improvement=None, tol=0.0)


def fit_lloyd(X, n_levels, codebook_size):
    """Fit with all rows, k-means++ and 25 Lloyd steps per level: the yardstick of quality."""

    def cluster(residual, level):
        kmeans = KMeans(codebook_size, n_init=1, max_iter=25, tol=0.0, random_state=level).fit(residual)
        return kmeans.cluster_centers_, kmeans.labels_

    return _residual(X, n_levels, cluster)


def fit_semantic_id(X, n_levels, codebook_size):
    from semantic_id import RQKMeans

    model = RQKMeans(n_levels=n_levels, n_clusters=codebook_size, n_init=1, random_state=0)
    return [np.asarray(book, np.float32) for book in model.fit(X).codebooks_]


# name -> (fit, package that it needs besides semid's own)
FITS = {
    "faiss.Kmeans, residual": (fit_faiss_kmeans, "faiss"),
    "faiss.ResidualQuantizer, 1 beam": (fit_faiss_rq, "faiss"),
    "sklearn MiniBatchKMeans, residual": (fit_large_batches, None),
    "sklearn MiniBatchKMeans, residual, defaults": (fit_minibatch, None),
    "sklearn MiniBatchKMeans, residual, 25 passes": (fit_minibatch_25, None),
    "sklearn KMeans, residual": (fit_lloyd, None),
    "semantic-id RQKMeans": (fit_semantic_id, "semantic-id"),
}
SLOW_FITS = frozenset(FITS) - {"faiss.Kmeans, residual"}


def encoders(codebooks):
    """Return name -> (call, package), all with the same codebooks."""
    return {
        "faiss flat, residual": (_faiss_flat(codebooks), "faiss"),
        "faiss.ResidualQuantizer, 5 beams": (_faiss_rq(codebooks, beam=5, table=False), "faiss"),
        "faiss.ResidualQuantizer, 5 beams, table": (_faiss_rq(codebooks, beam=5, table=True), "faiss"),
        "sklearn argmin, residual": (_sklearn_argmin(codebooks), None),
        "semantic-id RQKMeans": (_semantic_id(codebooks), "semantic-id"),
    }


def _by_level(X, codebooks, nearest):
    codes = np.empty((len(X), len(codebooks)), np.int64)
    for start in range(0, len(X), BLOCK_ROWS):
        residual = X[start : start + BLOCK_ROWS].copy()
        for level, codebook in enumerate(codebooks):
            found = nearest(residual, level)
            codes[start : start + BLOCK_ROWS, level] = found
            if level + 1 < len(codebooks):
                residual -= codebook[found]
    return codes


def _faiss_flat(codebooks):
    if missing("faiss"):
        return None
    faiss = load_faiss()

    indexes = [faiss.IndexFlatL2(book.shape[1]) for book in codebooks]
    for index, book in zip(indexes, codebooks, strict=True):
        index.add(book)
    return lambda X: _by_level(X, codebooks, lambda residual, level: indexes[level].search(residual, 1)[1][:, 0])


def _faiss_rq(codebooks, *, beam, table):
    if missing("faiss"):
        return None
    faiss = load_faiss()

    n_levels, (size, dim) = len(codebooks), codebooks[0].shape
    rq = faiss.ResidualQuantizer(dim, n_levels, _bits(size))
    faiss.copy_array_to_vector(np.concatenate([book.ravel() for book in codebooks]), rq.codebooks)
    rq.is_trained, rq.max_beam_size, rq.use_beam_LUT = True, beam, int(table)
    if table:
        rq.compute_codebook_tables()

    def encode(X):
        bits = np.unpackbits(rq.compute_codes(X), axis=1, bitorder="little")[:, : n_levels * _bits(size)]
        weights = 1 << np.arange(_bits(size))
        return bits.reshape(len(X), n_levels, -1) @ weights

    return encode


def _sklearn_argmin(codebooks):
    return lambda X: _by_level(X, codebooks, lambda rest, level: pairwise_distances_argmin(rest, codebooks[level]))


def _semantic_id(codebooks):
    if missing("semantic-id"):
        return None
    from semantic_id import RQKMeans

    model = RQKMeans(n_levels=len(codebooks), n_clusters=[len(book) for book in codebooks], n_init=1)
    model.codebooks_, model.D_ = list(codebooks), codebooks[0].shape[1]
    return lambda X: model.encode(X, batch_size=BLOCK_ROWS)


def _bits(codebook_size):
    if codebook_size & (codebook_size - 1):
        raise ValueError(f"faiss takes powers of two: expected one, got {codebook_size}. Choose another codebook_size.")
    return codebook_size.bit_length() - 1
