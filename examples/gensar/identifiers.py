"""Semantic IDs of the items: which views are quantized, by which quantizer, and which ID each task generates.

The paper's identifier (arXiv 2504.05730) gives an item two IDs that begin with the same codes: a semantic one for
search, a collaborative one for recommendation. Here it is made by k-means or by the paper's networks:

    shared-specific-kmeans, gensar-rqvae

The alternatives:

    separate-kmeans                          two IDs that share nothing, each from its own view
    residual-kmeans, rqvae                   fused: one ID for both tasks from the standardised views side by side
    semantic-kmeans, collaborative-kmeans    one ID for both tasks from one of the views

`semid.resolve` then makes the IDs unique.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final, get_args

import numpy as np
import numpy.typing as npt

import semid
from semid.errors import InvalidValueError
from semid.quantizers import RECIPES, Training

from .dataset import Dataset, Task
from .presets import Recipe

__all__ = [
    "IDENTIFIERS",
    "POLICIES",
    "VIEW_OF",
    "IdentifierName",
    "Identifiers",
    "codebook_size_for",
    "joined",
    "make_identifiers",
    "shape_of_ids",
    "unique_identifiers",
]

# Which ID a task generates, as in the paper.
VIEW_OF: dict[Task, str] = {"recommendation": "collaborative", "search": "semantic"}

IdentifierName = Literal[
    "shared-specific-kmeans",
    "gensar-rqvae",
    "separate-kmeans",
    "residual-kmeans",
    "rqvae",
    "semantic-kmeans",
    "collaborative-kmeans",
]
IDENTIFIERS: tuple[IdentifierName, ...] = get_args(IdentifierName)
# How `semid.resolve` makes IDs unique.
POLICIES = ("nearest", "suffix")

FloatArray = npt.NDArray[np.float32]


@final
@dataclass(frozen=True)
class Identifiers:
    """The IDs of a catalogue, and what they were made with.

    Attributes
    ----------
    quantizer : semid quantizer
    resolution : Resolution
        What `semid.resolve` returned, with the cost of making the IDs unique.
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


def make_identifiers(dataset: Dataset, views: Mapping[str, FloatArray], *, recipe: Recipe, seed: int) -> Identifiers:
    """Quantize the views of the items by the recipe's identifier, and make the IDs unique.

    Parameters
    ----------
    dataset : Dataset
    views : mapping of str to ndarray of shape (n_items, dim), dtype float32
        One entry for each view of `VIEW_OF`.
    recipe : Recipe
    seed : int

    Raises
    ------
    InvalidValueError
        If the identifier is unknown.
    """
    n_levels, size = shape_of_ids(dataset.n_items, recipe)
    options: dict[str, Any] = {"seed": seed, "progress": True}
    two: dict[str, Any] = {"n_shared": recipe.n_shared, "n_specific": recipe.n_specific, "views": tuple(views)}
    quantizer: Any
    X: Any = views
    match recipe.identifier:
        case "shared-specific-kmeans":
            quantizer = semid.SharedSpecificKMeans(codebook_size=size, **two, **options)
        case "gensar-rqvae":
            gensar = replace(RECIPES["gensar"], training=_training(RECIPES["gensar"].training, recipe))
            quantizer = semid.SharedSpecificRQVAE(codebook_size=size, recipe=gensar, **two, **options)
        case "separate-kmeans":
            two |= {"n_shared": 0, "n_specific": n_levels}
            quantizer = semid.SharedSpecificKMeans(codebook_size=size, **two, **options)
        case "residual-kmeans":
            quantizer, X = semid.ResidualKMeans(n_levels, size, **options), joined(views)
        case "rqvae":
            training = _training(Training(), recipe)
            quantizer, X = semid.RQVAE(n_levels, size, training=training, **options), joined(views)
        case "semantic-kmeans" | "collaborative-kmeans":
            view = recipe.identifier.removesuffix("-kmeans")
            quantizer, X = semid.ResidualKMeans(n_levels, size, **options), views[view]
        case _:
            raise InvalidValueError(
                f"--identifier is unknown: expected one of {IDENTIFIERS}, got {recipe.identifier!r}."
            )
    return unique_identifiers(dataset, quantizer.fit(X), X, views=tuple(views), policy=recipe.policy)


def shape_of_ids(n_items: int, recipe: Recipe) -> tuple[int, int]:
    """Return the number of levels of an ID and the codes per level for a catalogue."""
    n_levels = recipe.n_shared + recipe.n_specific
    return n_levels, codebook_size_for(n_items, n_levels=n_levels, at_least=recipe.codebook_size)


def codebook_size_for(n_items: int, *, n_levels: int, at_least: int) -> int:
    """Return `at_least`, doubled until the items fill at most half of the possible IDs.

    Fuller codebooks would force the resolver to move many items far from their embeddings.
    """
    size = at_least
    while 2 * n_items > size**n_levels:
        size *= 2
    return size


def joined(views: Mapping[str, FloatArray]) -> FloatArray:
    """Return all views side by side, each centred and scaled to a total variance of 1, so that none dominates."""
    centred = [view - view.mean(axis=0) for view in views.values()]
    return np.concatenate([view / np.sqrt((view**2).sum(axis=1).mean()) for view in centred], axis=1)


def _training(usual: Training, recipe: Recipe) -> Training:
    if recipe.network_epochs is None:
        return usual
    return replace(
        usual, epochs=recipe.network_epochs, warmup_epochs=min(usual.warmup_epochs, recipe.network_epochs // 2)
    )


def unique_identifiers(
    dataset: Dataset, quantizer: Any, X: FloatArray | Mapping[str, FloatArray], *, views: Sequence[str], policy: str
) -> Identifiers:
    """Encode the items and make their IDs unique.

    Parameters
    ----------
    dataset : Dataset
    quantizer : semid quantizer
        Fitted; of one embedding, or of all `views`.
    X : ndarray of shape (n_items, dim) or mapping of view to such an array, dtype float32
        What it was fitted on.
    views : sequence of str
    policy : str
        One of `POLICIES`.
    """
    one_id = not hasattr(quantizer, "views")
    resolution: Any = semid.resolve(quantizer, X, policy=policy)
    codes = dict.fromkeys(views, resolution.codes) if one_id else resolution.codes
    codebooks = dict.fromkeys(views, quantizer.codebooks) if one_id else quantizer.codebooks
    if policy == "suffix":
        # The numbers of a group have no meaning: as centroids they are all equally far from each other.
        suffix = np.eye(resolution.codebook_sizes[-1], dtype=np.float32)
        codebooks = {view: [*books, suffix] for view, books in codebooks.items()}
    return Identifiers(
        quantizer=quantizer,
        resolution=resolution,
        codes=codes,
        codebooks=codebooks,
        n_shared=len(resolution.codebook_sizes) if one_id else quantizer.n_shared,
        sids=semid.SemanticIds(
            dataset.item_keys, codes, codebook_sizes=resolution.codebook_sizes, quantizer=None if one_id else quantizer
        ),
    )
