"""Parts of quantizers that train a network: layers, codebooks, balanced assignment, the training loop."""
