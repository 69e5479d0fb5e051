"""Metrics: how good a set of semantic IDs is, before any model is trained on it."""

from semid.metrics.summary import LevelReport, MultiViewReport, Report, report

__all__ = ["LevelReport", "MultiViewReport", "Report", "report"]
