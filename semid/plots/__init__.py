"""Plots of codes on matplotlib Axes, new ones or the caller's; nothing is shown or saved here."""

from semid.plots.groups import collision_sizes
from semid.plots.heatmap import usage_heatmap
from semid.plots.projection import projection
from semid.plots.tree import prefix_tree
from semid.plots.usage import codebook_usage

__all__ = ["codebook_usage", "collision_sizes", "prefix_tree", "projection", "usage_heatmap"]
