"""Metrics: how good a set of semantic IDs is, before any model is trained on it."""

from semid.metrics.results import LevelReport, MultiViewReport, Report
from semid.metrics.summary import report

__all__ = ["LevelReport", "MultiViewReport", "Report", "report"]
