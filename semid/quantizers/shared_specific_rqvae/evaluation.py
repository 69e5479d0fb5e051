"""How good a network's codes are: decoded error relative to the variance, and collisions."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from semid._arrays import Rows
from semid.quantizers.shared_specific_rqvae.network import SharedSpecificNetwork

__all__ = ["collision_rate", "encode_all", "relative_error"]

Load = Callable[[Rows], list[torch.Tensor]]
BLOCK_ROWS = 4096


def blocks_of(rows: Rows) -> Iterator[Rows]:
    """Yield rows block by block."""
    for first in range(0, len(rows), BLOCK_ROWS):
        yield rows[first : first + BLOCK_ROWS]


@torch.no_grad()
def encode_all(network: SharedSpecificNetwork, load: Load, rows: Rows) -> list[torch.Tensor]:
    """Return the latents of rows, one tensor of shape (n_rows, latent dim) per view."""
    network.eval()
    blocks = [network.encode(load(block)) for block in blocks_of(rows)]
    return [torch.cat(parts) for parts in zip(*blocks, strict=True)]


@torch.no_grad()
def relative_error(network: SharedSpecificNetwork, load: Load, rows: Rows) -> float:
    """Return the squared error of the decoded codes over the variance of the same rows, mean over views."""
    network.eval()
    n_views = len(network.latent_dims)
    errors, squares, sums = np.zeros(n_views), np.zeros(n_views), [np.zeros(1)] * n_views
    for block in blocks_of(rows):
        views = load(block)
        decoded = network.decode(network.quantized(network.encode(views)))
        for number, (x, y) in enumerate(zip(views, decoded, strict=True)):
            errors[number] += float((x - y).square().sum(dtype=torch.float64))
            squares[number] += float(x.square().sum(dtype=torch.float64))
            sums[number] = sums[number] + x.sum(dim=0, dtype=torch.float64).cpu().numpy()
    spreads = squares - np.array([float(each @ each) for each in sums]) / len(rows)
    # A view without variance costs what it costs: there is nothing to compare it with.
    return float(np.mean(errors / np.where(spreads > 1e-9 * squares, spreads, len(rows))))


@torch.no_grad()
def collision_rate(network: SharedSpecificNetwork, load: Load, rows: Rows) -> float:
    """Return ``1 - n_unique / n_rows`` of the codes, mean over views."""
    network.eval()
    blocks = []
    for block in blocks_of(rows):
        shared, specific = network.quantize(network.encode(load(block)))
        blocks.append([torch.stack(shared.codes + own.codes, dim=1) for own in specific])
    unique = [len(torch.unique(torch.cat(codes), dim=0)) for codes in zip(*blocks, strict=True)]
    return 1.0 - sum(unique) / (len(unique) * len(rows))
