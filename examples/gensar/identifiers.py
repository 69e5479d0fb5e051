"""Semantic IDs of the items: which embeddings go in, which quantizer writes them, and which ID each task generates.

An item has two views, the embedding of its text and a collaborative one. The paper's identifier (arXiv 2504.05730)
gives it two IDs that begin with the same codes: a semantic one for search, a collaborative one for recommendation.
Beside it stands the plain alternative, one ID for both tasks from the joined views. Then the resolver makes the IDs
unique.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

import semid

from .dataset import Task
from .presets import Recipe

__all__ = ["IDENTIFIERS", "VIEW_OF", "IdentifierName", "Identifiers", "codebook_size_for", "make_identifiers"]

# Which ID a task generates; both of the paper's choices.
VIEW_OF: dict[Task, str] = {"recommendation": "collaborative", "search": "semantic"}

IdentifierName = Literal["shared-specific-kmeans", "gensar-rqvae", "residual-kmeans", "rqvae"]
IDENTIFIERS: tuple[IdentifierName, ...] = ("shared-specific-kmeans", "gensar-rqvae", "residual-kmeans", "rqvae")

FloatArray = npt.NDArray[np.float32]


@final
@dataclass(frozen=True)
class Identifiers:
    """The IDs of a catalogue, and where they come from.

    Attributes
    ----------
    quantizer : semid quantizer
    resolution : Resolution
        What `semid.resolve` returned: what making the IDs unique has cost.
    codes : mapping of view to ndarray of shape (n_items, n_levels), unsigned integer dtype
        The same array for both views where an item has one ID.
    codebooks : mapping of view to sequence of ndarray of shape (codebook_size, dim), dtype float32
    n_shared : int
        Leading levels that all views share; all levels where an item has one ID.
    sids : semid.SemanticIds
        Item key <-> codes <-> rank, per view.
    """

    quantizer: Any
    resolution: Any
    codes: Mapping[str, npt.NDArray[Any]]
    codebooks: Mapping[str, Sequence[FloatArray]]
    n_shared: int
    sids: Any


def codebook_size_for(n_items: int, *, n_levels: int, at_least: int) -> int:
    """Return `at_least`, doubled until the items fill at most half of the possible IDs.

    Fuller codebooks would force the resolver to move many items far from where their embeddings are.
    """
    size = at_least
    while 2 * n_items > size**n_levels:
        size *= 2
    return size


def joined(views: Mapping[str, FloatArray]) -> FloatArray:
    """Return all views side by side, each centred and scaled to a total variance of 1, so that none dominates."""
    centred = [view - view.mean(axis=0) for view in views.values()]
    return np.concatenate([view / np.sqrt((view**2).sum(axis=1).mean()) for view in centred], axis=1)


def make_identifiers(
    item_keys: tuple[str, ...], views: Mapping[str, FloatArray], *, recipe: Recipe, seed: int
) -> Identifiers:
    """Quantize the views of the items and make the IDs unique.

    Parameters
    ----------
    item_keys : tuple of str
    views : mapping of str to ndarray of shape (n_items, dim), dtype float32
        One entry for each view of `VIEW_OF`.
    recipe : Recipe
        With the name of the identifier.
    seed : int
    """
    n_levels = recipe.n_shared + recipe.n_specific
    size = codebook_size_for(len(item_keys), n_levels=n_levels, at_least=recipe.codebook_size)
    two: dict[str, Any] = {"n_shared": recipe.n_shared, "n_specific": recipe.n_specific, "views": tuple(views)}
    quantizer: Any
    match recipe.identifier:
        case "shared-specific-kmeans":
            quantizer = semid.SharedSpecificKMeans(codebook_size=size, seed=seed, progress=True, **two)
        case "gensar-rqvae":
            quantizer = semid.SharedSpecificRQVAE(codebook_size=size, recipe="gensar", seed=seed, progress=True, **two)
        case "residual-kmeans":
            quantizer = semid.ResidualKMeans(n_levels, size, seed=seed, progress=True)
        case "rqvae":
            quantizer = semid.RQVAE(n_levels, size, seed=seed, progress=True)
    one_id = not hasattr(quantizer, "views")
    X = joined(views) if one_id else views
    resolution: Any = semid.resolve(quantizer.fit(X), X)
    codes = dict.fromkeys(views, resolution.codes) if one_id else resolution.codes
    return Identifiers(
        quantizer=quantizer,
        resolution=resolution,
        codes=codes,
        codebooks=dict.fromkeys(views, quantizer.codebooks) if one_id else quantizer.codebooks,
        n_shared=n_levels if one_id else quantizer.n_shared,
        sids=semid.SemanticIds(item_keys, codes, codebook_sizes=resolution.codebook_sizes),
    )
