"""Collisions: codes to semantic IDs that belong to one item each."""

from semid.collisions.capacity import suggest_sizes
from semid.collisions.resolve import resolve
from semid.collisions.result import Resolution

__all__ = ["Resolution", "resolve", "suggest_sizes"]
