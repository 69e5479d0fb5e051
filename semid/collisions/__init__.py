"""Collisions: codes to semantic IDs that belong to one item each."""

from semid.collisions.resolve import Resolution, resolve
from semid.collisions.sizes import suggest_sizes

__all__ = ["Resolution", "resolve", "suggest_sizes"]
