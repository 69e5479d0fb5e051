"""The report on a set of codes: collisions, use of the codebooks, distortion, neighbour recall, prefix purity."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, final, overload

import numpy as np

from semid._arrays import CodeArray, FloatArray, Int64Array
from semid._checks import check_count, check_quantizer
from semid.errors import InvalidValueError
from semid.io.batches import check_embeddings
from semid.metrics.distortion import Decode, decoded_distortion, distortion_by_level, variance
from semid.metrics.neighbors import neighbor_recall
from semid.metrics.usage import (
    as_table,
    check_code_table,
    check_labels,
    code_counts,
    entropy_bits,
    gini,
    group_sizes,
    prefix_purity,
)

__all__ = ["LevelReport", "MultiViewReport", "Report", "report"]

# Items that tell whether a quantizer decodes to sums of centroids.
ADDITIVE_ROWS = 64


@final
@dataclass(frozen=True)
class LevelReport:
    """How one level's codebook is used.

    Attributes
    ----------
    codebook_size : int
    n_used : int
        Codes that at least one item has.
    usage : float
        ``n_used / codebook_size``.
    perplexity : float
        ``2 ** entropy_bits``: the size of an evenly used codebook that carries as much information.
    entropy_bits : float
        Entropy of the codes over the items, in bits.
    gini : float
        Gini coefficient of the items per code, dead codes included: 0 for an even use of the codebook.
    distortion : float
        Mean squared distance between embedding and the sum of the centroids up to this level; NaN without a quantizer,
        on the level that ``resolve(policy="suffix")`` appends, and where a network decodes, whose levels do not add up.
    relative_distortion : float
        `distortion` over the embeddings' variance (their mean squared distance to their mean), the share that the
        codes do not explain; NaN as `distortion`, or where all embeddings are equal.
    prefix_purity : float
        Share of the items that bear the most frequent label of their prefix up to this level; NaN without labels. It
        starts from the share of the most frequent label, and ends at 1 where IDs are unique, whatever the labels.
    """

    codebook_size: int
    n_used: int
    usage: float
    perplexity: float
    entropy_bits: float
    gini: float
    distortion: float
    relative_distortion: float
    prefix_purity: float


@final
@dataclass(frozen=True, repr=False)
class Report:
    """How good a set of codes is; printing it gives a table.

    Attributes
    ----------
    n_items, n_unique : int
        Items, and distinct rows of codes.
    collision_rate : float
        ``1 - n_unique / n_items``.
    largest_group : int
        Most items that share one row.
    gini : float
        Gini coefficient of the items per distinct row: 0 where all IDs bear the same load, as unique ones do.
    levels : tuple of LevelReport
    distortion : float
        Mean squared distance between embedding and decoded embedding; NaN without a quantizer.
    relative_distortion : float
        `distortion` over the embeddings' variance; NaN without a quantizer or where all embeddings are equal.
    neighbor_recall : float
        Mean share of an item's `n_neighbors` nearest items that are among its nearest after decoding; NaN without a
        quantizer or with a single item.
    n_neighbors, n_queries : int
        What the recall was measured on; 0 where it was not.
    """

    n_items: int
    n_unique: int
    collision_rate: float
    largest_group: int
    gini: float
    levels: tuple[LevelReport, ...]
    distortion: float
    relative_distortion: float
    neighbor_recall: float
    n_neighbors: int
    n_queries: int

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, with None for NaN."""
        return _json_safe(asdict(self))  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        lines = [
            f"{self.n_items:,} items, {self.n_unique:,} distinct semantic IDs: "
            f"collision rate {self.collision_rate:.2%}, largest group {self.largest_group:,}, "
            f"Gini of ID load {self.gini:.2f}",
            *_table(self.levels),
        ]
        if not math.isnan(self.distortion):
            share = "" if math.isnan(self.relative_distortion) else f", {self.relative_distortion:.1%} of the variance"
            lines.append(f"distortion {self.distortion:.4g}{share}")
        if self.n_queries:
            lines.append(f"neighbor recall@{self.n_neighbors} {self.neighbor_recall:.1%} over {self.n_queries:,} items")
        return "\n".join(lines)


@final
@dataclass(frozen=True, repr=False)
class MultiViewReport:
    """One report per view of the items.

    Attributes
    ----------
    views : dict of str to Report
    """

    views: dict[str, Report]

    def __getitem__(self, view: str) -> Report:
        return self.views[view]

    def to_dict(self) -> dict[str, Any]:
        """Return the reports as JSON values, view -> report."""
        return {view: one.to_dict() for view, one in self.views.items()}

    def __repr__(self) -> str:
        return "\n\n".join(f"{view}\n{one!r}" for view, one in self.views.items())


def _json_safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _table(levels: tuple[LevelReport, ...]) -> list[str]:
    header = ["level", "codes", "used", "usage", "perplexity", "entropy (bits)", "gini"]
    rows = [
        [f"{i}", f"{level.codebook_size:,}", f"{level.n_used:,}", f"{level.usage:.1%}", f"{level.perplexity:,.1f}",
         f"{level.entropy_bits:.2f}", f"{level.gini:.2f}"]
        for i, level in enumerate(levels)
    ]  # fmt: skip
    if not all(math.isnan(level.distortion) for level in levels):
        header += ["distortion", "of variance"]
        for row, level in zip(rows, levels, strict=True):
            row.append("-" if math.isnan(level.distortion) else f"{level.distortion:.4g}")
            row.append("-" if math.isnan(level.relative_distortion) else f"{level.relative_distortion:.1%}")
    if not any(math.isnan(level.prefix_purity) for level in levels):
        header.append("purity")
        for row, level in zip(rows, levels, strict=True):
            row.append(f"{level.prefix_purity:.1%}")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]


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
