"""The report on a set of codes: collisions, use of the codebooks, distortion, neighbour recall, prefix purity."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final, overload

import numpy as np

from semid._arrays import CodeArray, FloatArray, Int64Array
from semid._checks import check_count, check_quantizer
from semid.errors import InvalidValueError
from semid.io.batches import check_embeddings
from semid.metrics.distortion import Decode, decoded_distortion, distortion_by_level, variance
from semid.metrics.neighbors import neighbor_recall
from semid.metrics.purity import check_labels, prefix_purity
from semid.metrics.results import LevelReport, MultiViewReport, Report
from semid.metrics.usage import as_table, check_code_table, code_counts, entropy_bits, gini, group_sizes

__all__ = ["report"]

# Items that tell whether a quantizer decodes to sums of centroids.
ADDITIVE_ROWS = 64


@overload
def report(
    X: Mapping[str, Any],
    codes: Mapping[str, Any],
    quantizer: Any = None,
    *,
    labels: Any = None,
    n_neighbors: int = 10,
    sample: int = 500,
    seed: int = 0,
) -> MultiViewReport: ...


@overload
def report(
    X: Any,
    codes: Any,
    quantizer: Any = None,
    *,
    labels: Any = None,
    n_neighbors: int = 10,
    sample: int = 500,
    seed: int = 0,
) -> Report: ...


def report(
    X: Any,
    codes: Any,
    quantizer: Any = None,
    *,
    labels: Any = None,
    n_neighbors: int = 10,
    sample: int = 500,
    seed: int = 0,
) -> Report | MultiViewReport:
    """Measure a set of codes: collisions, use of the codebooks, distortion, neighbour recall and prefix purity.

    Parameters
    ----------
    X : array-like of shape (n_items, dim), or mapping of view to such
        The embeddings; anything that `quantizer` accepts.
    codes : array-like of shape (n_items, n_levels), integer dtype, or mapping of view to such
        What ``encode`` or ``resolve`` returned for `X`. One level more than the quantizer has is the suffix of
        ``resolve(policy="suffix")``: it counts for collisions and usage, and decodes to nothing.
    quantizer : fitted quantizer, optional
        Without it there is neither distortion nor recall, and each codebook is taken to end at its largest code.
    labels : array-like of shape (n_items,), optional
        A category per item, compared as text, a list of categories as a whole: whether items that share a prefix share
        a label.
    n_neighbors : int, default=10
        Depth of the neighbour recall; at most ``n_items - 1`` are used.
    sample : int, default=500
        Items whose neighbours are compared. The standard error of the recall is below ``0.5 / sqrt(sample)``; the time
        grows with ``sample * n_items * dim``, the memory not with `n_items`.
    seed : int, default=0
        Seed of that sample.

    Returns
    -------
    report : Report, or MultiViewReport for several views

    Raises
    ------
    InvalidTypeError
        If the codes or the numbers are not integers, or `quantizer` is not a quantizer.
    InvalidValueError
        If `X`, `codes` and `quantizer` are not of the same views, the numbers of items differ, also that of `labels`,
        a code is out of range, `n_neighbors` or `sample` is not positive, or `seed` is negative.

    Examples
    --------
    >>> import numpy as np, semid
    >>> semid.report(np.eye(4), [[0, 0], [0, 1], [1, 0], [1, 0]])
    4 items, 3 distinct semantic IDs: collision rate 25.00%, largest group 2, Gini of ID load 0.17
    level  codes  used   usage  perplexity  entropy (bits)  gini
        0      2     2  100.0%         2.0            1.00  0.00
        1      2     2  100.0%         1.8            0.81  0.25
    """
    options = {
        "labels": labels,
        "n_neighbors": check_count(n_neighbors, "n_neighbors"),
        "sample": check_count(sample, "sample"),
        "seed": check_count(seed, "seed", least=0),
    }
    if quantizer is not None:
        check_quantizer(quantizer, ["codebooks", "decode"])
    _check_kinds(X, codes, quantizer)
    if quantizer is not None:
        check_quantizer(quantizer, ["standardize" if isinstance(X, Mapping) else "dim"])
    if not isinstance(X, Mapping):
        X = check_embeddings(X, dim=None if quantizer is None else quantizer.dim)
        model = None if quantizer is None else _Model(tuple(quantizer.codebooks), quantizer.decode, lambda x: x)
        return _report(X, codes, model, name="codes", **options)
    X = {view: check_embeddings(x, name=view) for view, x in X.items()}
    models = dict.fromkeys(X) if quantizer is None else _models_of_views(quantizer, X)
    return MultiViewReport(
        {view: _report(x, codes[view], models[view], name=f"codes of {view}", **options) for view, x in X.items()}
    )


def _check_kinds(X: Any, codes: Any, quantizer: Any) -> None:
    given = {"X": X, "codes": codes} | ({} if quantizer is None else {"quantizer": quantizer.codebooks})
    kinds = {name: sorted(value) if isinstance(value, Mapping) else "one view" for name, value in given.items()}
    if any(kind != kinds["X"] for kind in kinds.values()):
        got = ", ".join(f"{name} of {kind}" for name, kind in kinds.items())
        raise InvalidValueError(
            f"views disagree: expected the same everywhere, got {got}. Pass the same views to each."
        )


@final
@dataclass(frozen=True)
class _Model:
    """A quantizer as the report sees it: codebooks, decoding, and the way to the space where the codebooks live."""

    codebooks: tuple[FloatArray, ...]
    decode: Decode
    standardize: Callable[[FloatArray], FloatArray]

    def is_additive(self, codes: CodeArray) -> bool:
        """Return whether decoded items are sums of centroids, which those of a network are not."""
        total = np.sum([book[column] for book, column in zip(self.codebooks, codes.T, strict=True)], axis=0)
        decoded = self.standardize(self.decode(codes))
        return decoded.shape == total.shape and np.allclose(decoded, total, rtol=1e-3, atol=1e-3 * np.abs(total).max())


def _models_of_views(quantizer: Any, X: Mapping[str, FloatArray]) -> dict[str, _Model | None]:
    def model_of(view: str) -> _Model:
        # Both calls ask for all views; this view's codes are valid ones of every view, and the others' rows are theirs.
        return _Model(
            tuple(quantizer.codebooks[view]),
            lambda codes: quantizer.decode(dict.fromkeys(X, codes))[view],
            lambda x: quantizer.standardize({other: X[other][: len(x)] for other in X} | {view: x})[view],
        )

    return {view: model_of(view) for view in X}


def _report(
    X: FloatArray, codes: Any, model: _Model | None, *, name: str, labels: Any, n_neighbors: int, sample: int, seed: int
) -> Report:
    codes, sizes = _check_codes(codes, model, name=name)
    n_items = len(codes)
    if len(X) != n_items:
        raise InvalidValueError(
            f"{name} and embeddings disagree: expected {len(X)} rows of codes, got {n_items}. "
            "Pass the codes of these items."
        )
    groups = group_sizes(codes, sizes)
    purity = np.full(len(sizes), np.nan)
    if labels is not None:
        purity = prefix_purity(codes, sizes, check_labels(labels, n_items=n_items))
    distortions, distortion, spread = np.full(len(sizes), np.nan), math.nan, math.nan
    recall, k, n_queries = math.nan, 0, 0
    if model is not None:
        n_levels = len(model.codebooks)
        decodable = codes[:, :n_levels]
        spread = variance(X)
        if model.is_additive(decodable[:ADDITIVE_ROWS]):
            inner = model.standardize(X)
            # A shift and one scale lead there: the relative distortion is the same.
            inner_spread = variance(inner)
            scale = spread / inner_spread if inner_spread > 0 else 1.0
            distortions[:n_levels] = scale * distortion_by_level(inner, decodable, model.codebooks)
        distortion = decoded_distortion(X, decodable, model.decode)
        if n_items > 1:
            k, n_queries = min(n_neighbors, n_items - 1), min(sample, n_items)
            queries = np.sort(np.random.default_rng(seed).choice(n_items, n_queries, replace=False))
            recall = neighbor_recall(
                X.__getitem__, lambda at: model.decode(decodable[at]), queries, n_items=n_items, k=k
            )
    levels = [
        _report_level(counts, float(distortion_), spread, float(purity_))
        for counts, distortion_, purity_ in zip(code_counts(codes, sizes), distortions, purity, strict=True)
    ]
    return Report(
        n_items=n_items,
        n_unique=len(groups),
        collision_rate=1 - len(groups) / n_items,
        largest_group=int(groups.max()),
        gini=gini(groups),
        levels=tuple(levels),
        distortion=distortion,
        relative_distortion=_ratio(distortion, spread),
        neighbor_recall=recall,
        n_neighbors=k,
        n_queries=n_queries,
    )


def _check_codes(codes: Any, model: _Model | None, *, name: str) -> tuple[CodeArray, tuple[int, ...]]:
    if model is None:
        return check_code_table(codes, name=name)
    table, sizes = as_table(codes, name=name), [len(codebook) for codebook in model.codebooks]
    if table.shape[1] == len(sizes) + 1:
        # The suffix level: no codebook bounds its codes.
        sizes.append(max(int(table[:, -1].max()), 0) + 1)
    return check_code_table(table, sizes, name=name)


def _report_level(counts: Int64Array, distortion: float, spread: float, purity: float) -> LevelReport:
    n_used, entropy = int((counts > 0).sum()), entropy_bits(counts)
    return LevelReport(
        codebook_size=len(counts),
        n_used=n_used,
        usage=n_used / len(counts),
        perplexity=2.0**entropy,
        entropy_bits=entropy,
        gini=gini(counts),
        distortion=distortion,
        relative_distortion=_ratio(distortion, spread),
        prefix_purity=purity,
    )


def _ratio(distortion: float, spread: float) -> float:
    return distortion / spread if spread > 0 else math.nan
