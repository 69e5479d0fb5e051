"""Quantizers: item embeddings to codes."""

from semid.quantizers.base import MultiViewQuantizer, Quantizer
from semid.quantizers.kmeans import KMeans
from semid.quantizers.networks.options import RECIPES, CodeLearning, Recipe, Training
from semid.quantizers.product import ProductKMeans
from semid.quantizers.residual import ResidualKMeans
from semid.quantizers.rqvae import RQVAE
from semid.quantizers.shared_specific import SharedSpecificKMeans
from semid.quantizers.shared_specific_rqvae import SharedSpecificRQVAE

__all__ = [
    "RECIPES",
    "RQVAE",
    "CodeLearning",
    "KMeans",
    "MultiViewQuantizer",
    "ProductKMeans",
    "Quantizer",
    "Recipe",
    "ResidualKMeans",
    "SharedSpecificKMeans",
    "SharedSpecificRQVAE",
    "Training",
]
