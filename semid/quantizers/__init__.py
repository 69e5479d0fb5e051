"""Quantizers: item embeddings to codes."""

from semid.quantizers.base import MultiViewQuantizer, Quantizer
from semid.quantizers.residual import ResidualKMeans
from semid.quantizers.shared_specific import SharedSpecificKMeans

__all__ = ["MultiViewQuantizer", "Quantizer", "ResidualKMeans", "SharedSpecificKMeans"]
