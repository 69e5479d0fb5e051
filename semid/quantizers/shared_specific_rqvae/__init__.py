"""GenSAR's identifier: shared and specific residual codes on the latents of one autoencoder per view."""

from semid.quantizers.shared_specific_rqvae.quantizer import SharedSpecificRQVAE
from semid.quantizers.shared_specific_rqvae.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe", "SharedSpecificRQVAE"]
