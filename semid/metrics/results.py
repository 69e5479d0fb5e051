"""What a report holds, and how it prints."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

__all__ = ["LevelReport", "MultiViewReport", "Report"]


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
