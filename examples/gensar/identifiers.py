"""Two semantic IDs per item: a semantic one for search, a collaborative one for recommendation.

The two views of an item are its text embedding and its collaborative embedding. The first codes of both IDs are the
same, the others belong to one view; this is the paper's identifier (arXiv 2504.05730), with k-means in the place of its
RQ-VAE. Then the resolver makes the IDs of each view unique.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

import semid

from .dataset import Task
from .presets import Recipe

__all__ = ["VIEW_OF", "Identifiers", "codebook_size_for", "make_identifiers"]

# Which ID a task generates; both of the paper's choices.
VIEW_OF: dict[Task, str] = {"recommendation": "collaborative", "search": "semantic"}

FloatArray = npt.NDArray[np.float32]


@final
@dataclass(frozen=True)
class Identifiers:
    """The IDs of a catalogue, and where they come from.

    Attributes
    ----------
    quantizer : semid.SharedSpecificKMeans
    resolution : Resolution
        What `semid.resolve` returned: the codes per view, and what making them unique has cost.
    sids : semid.SemanticIds
        Item key <-> codes <-> rank, per view.
    """

    quantizer: Any
    resolution: Any
    sids: Any


def codebook_size_for(n_items: int, *, n_levels: int, at_least: int) -> int:
    """Return `at_least`, doubled until the items fill at most half of the possible IDs.

    Fuller codebooks would force the resolver to move many items far from where their embeddings are.
    """
    size = at_least
    while 2 * n_items > size**n_levels:
        size *= 2
    return size


def make_identifiers(
    item_keys: tuple[str, ...], views: Mapping[str, FloatArray], *, recipe: Recipe, seed: int
) -> Identifiers:
    """Quantize the views of the items and make the IDs unique.

    Parameters
    ----------
    item_keys : tuple of str
    views : mapping of str to ndarray of shape (n_items, dim), dtype float32
        One entry for each view of `VIEW_OF`.
    """
    size = codebook_size_for(
        len(item_keys), n_levels=recipe.n_shared + recipe.n_specific, at_least=recipe.codebook_size
    )
    quantizer = semid.SharedSpecificKMeans(
        n_shared=recipe.n_shared, n_specific=recipe.n_specific, codebook_size=size, views=tuple(views), seed=seed
    )
    resolution = semid.resolve(quantizer.fit(views), views)
    sids = semid.SemanticIds(item_keys, resolution.codes, codebook_sizes=resolution.codebook_sizes)
    return Identifiers(quantizer, resolution, sids)
