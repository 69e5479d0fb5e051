"""Pictures of codes, drawn on matplotlib Axes that the caller may bring; nothing is shown or saved here."""

from semid.plots.tree import prefix_tree
from semid.plots.usage import codebook_usage

__all__ = ["codebook_usage", "prefix_tree"]
