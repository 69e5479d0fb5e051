"""Semantic IDs of the items: which embeddings go in, which quantizer writes them, and which ID each task generates.

An item has two views, the embedding of its text and a collaborative one. The paper's identifier (arXiv 2504.05730)
gives it two IDs that begin with the same codes: a semantic one for search, a collaborative one for recommendation.
Beside it stand the alternatives:

    separate-kmeans                          two IDs that share nothing, each from its view alone
    residual-kmeans, rqvae                   fused: one ID for both tasks from the standardised views side by side
    semantic-kmeans, collaborative-kmeans    one ID for both tasks from one of the views
    fused-biencoder                          one ID for both tasks from an embedding trained on both, see `biencoder`

Then the resolver makes the IDs unique.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final, get_args

import numpy as np
import numpy.typing as npt

import semid
from semid.errors import InvalidValueError
from semid.quantizers import RECIPES, Training

from .dataset import Task
from .presets import Recipe

__all__ = ["IDENTIFIERS", "VIEW_OF", "IdentifierName", "Identifiers", "codebook_size_for", "make_identifiers"]

# Which ID a task generates; both of the paper's choices.
VIEW_OF: dict[Task, str] = {"recommendation": "collaborative", "search": "semantic"}

IdentifierName = Literal[
    "shared-specific-kmeans",
    "gensar-rqvae",
    "separate-kmeans",
    "residual-kmeans",
    "rqvae",
    "semantic-kmeans",
    "collaborative-kmeans",
    "fused-biencoder",
]
IDENTIFIERS: tuple[IdentifierName, ...] = get_args(IdentifierName)
# How `semid.resolve` makes IDs unique.
POLICIES = ("nearest", "suffix")

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
    item_keys: tuple[str, ...],
    views: Mapping[str, FloatArray],
    *,
    recipe: Recipe,
    seed: int,
    joint: FloatArray | None = None,
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
    joint : ndarray of shape (n_items, dim), dtype float32, optional
        What `fused-biencoder` quantizes; the others do without.

    Raises
    ------
    InvalidValueError
        If the identifier is unknown, or lacks its joint embedding.
    """
    n_levels = recipe.n_shared + recipe.n_specific
    size = codebook_size_for(len(item_keys), n_levels=n_levels, at_least=recipe.codebook_size)
    two: dict[str, Any] = {"n_shared": recipe.n_shared, "n_specific": recipe.n_specific, "views": tuple(views)}
    quantizer: Any
    X: Any = views
    match recipe.identifier:
        case "shared-specific-kmeans":
            quantizer = semid.SharedSpecificKMeans(codebook_size=size, seed=seed, progress=True, **two)
        case "gensar-rqvae":
            gensar = replace(RECIPES["gensar"], training=_training(RECIPES["gensar"].training, recipe))
            quantizer = semid.SharedSpecificRQVAE(codebook_size=size, recipe=gensar, seed=seed, progress=True, **two)
        case "separate-kmeans":
            two |= {"n_shared": 0, "n_specific": n_levels}
            quantizer = semid.SharedSpecificKMeans(codebook_size=size, seed=seed, progress=True, **two)
        case "residual-kmeans":
            quantizer, X = semid.ResidualKMeans(n_levels, size, seed=seed, progress=True), joined(views)
        case "rqvae":
            training = _training(Training(), recipe)
            quantizer, X = semid.RQVAE(n_levels, size, training=training, seed=seed, progress=True), joined(views)
        case "semantic-kmeans" | "collaborative-kmeans":
            view = recipe.identifier.removesuffix("-kmeans")
            quantizer, X = semid.ResidualKMeans(n_levels, size, seed=seed, progress=True), views[view]
        case "fused-biencoder":
            if joint is None:
                raise InvalidValueError(
                    "fused-biencoder has nothing to quantize: expected a joint embedding, got None. "
                    "Pass joint=fit_biencoder(..).items."
                )
            quantizer, X = semid.ResidualKMeans(n_levels, size, seed=seed, progress=True), joint
        case _:
            raise InvalidValueError(
                f"--identifier is unknown: expected one of {IDENTIFIERS}, got {recipe.identifier!r}."
            )
    one_id = not hasattr(quantizer, "views")
    resolution: Any = semid.resolve(quantizer.fit(X), X, policy=recipe.policy)
    codes = dict.fromkeys(views, resolution.codes) if one_id else resolution.codes
    codebooks = dict.fromkeys(views, quantizer.codebooks) if one_id else quantizer.codebooks
    if recipe.policy == "suffix":
        # The numbers of a group mean nothing: as centroids they are all equally far from each other.
        suffix = np.eye(resolution.codebook_sizes[-1], dtype=np.float32)
        codebooks = {view: [*books, suffix] for view, books in codebooks.items()}
    return Identifiers(
        quantizer=quantizer,
        resolution=resolution,
        codes=codes,
        codebooks=codebooks,
        n_shared=len(resolution.codebook_sizes) if one_id else quantizer.n_shared,
        sids=semid.SemanticIds(item_keys, codes, codebook_sizes=resolution.codebook_sizes),
    )


def _training(usual: Training, recipe: Recipe) -> Training:
    if recipe.network_epochs is None:
        return usual
    return replace(
        usual, epochs=recipe.network_epochs, warmup_epochs=min(usual.warmup_epochs, recipe.network_epochs // 2)
    )
