"""The catalogue: item ids and their semantic IDs."""

from semid.catalog.semantic_ids import SemanticIds

__all__ = ["SemanticIds"]
