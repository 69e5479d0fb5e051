"""Codebooks inside a network: nearest codes, moving averages, new places for codes that nobody uses."""

import torch
from torch import Tensor

__all__ = ["count_codes", "move_codebook", "nearest_codes", "revive_dead", "squared_distances"]


@torch.no_grad()
def squared_distances(x: Tensor, codebook: Tensor) -> Tensor:
    """Return ``|x|^2 + |c|^2 - 2 <x, c>`` of each row and centroid; shape (n_items, codebook_size), never negative."""
    squares = (codebook * codebook).sum(1) + (x * x).sum(1, keepdim=True)
    return torch.addmm(squares, x, codebook.T, alpha=-2).clamp_min_(0)


@torch.no_grad()
def nearest_codes(x: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest centroid of each row and the squared distance to it.

    Parameters
    ----------
    x : Tensor of shape (n_items, dim), floating dtype
    codebook : Tensor of shape (codebook_size, dim), the same dtype

    Returns
    -------
    codes : Tensor of shape (n_items,), dtype int64
        Ties to the lower code on a CPU; on a GPU to any.
    distance : Tensor of shape (n_items,)
    """
    # |x|^2 is the same for all codes and waits until the search is over.
    scores = torch.addmm((codebook * codebook).sum(1), x, codebook.T, alpha=-2)
    least, codes = scores.min(dim=1)
    return codes, (least + (x * x).sum(1)).clamp_min_(0)


def count_codes(codes: Tensor, codebook_size: int) -> Tensor:
    """Return how often each code occurs; shape (codebook_size,), dtype int64."""
    return torch.bincount(codes, minlength=codebook_size)


@torch.no_grad()
def move_codebook(codebook: Tensor, sizes: Tensor, sums: Tensor, x: Tensor, codes: Tensor, *, decay: float) -> None:
    """Move each centroid to the moving average of the rows that chose it; VQ-VAE (arXiv:1711.00937), appendix A.1.

    Parameters
    ----------
    codebook : Tensor of shape (codebook_size, dim)
        Changed in place, as are `sizes` and `sums`.
    sizes : Tensor of shape (codebook_size,), dtype of `codebook`
        Moving average of the number of rows per code.
    sums : Tensor of shape (codebook_size, dim)
        Moving average of the sum of the rows per code.
    x : Tensor of shape (n_items, dim)
    codes : Tensor of shape (n_items,), dtype int64
    decay : float
        Share of the old averages that stays.
    """
    sizes.mul_(decay).add_(count_codes(codes, len(codebook)).to(sizes.dtype), alpha=1 - decay)
    sums.mul_(decay).index_add_(0, codes, x, alpha=1 - decay)
    codebook.copy_(torch.where(sizes[:, None] > 1e-3, sums / sizes.clamp_min(1e-3)[:, None], codebook))


@torch.no_grad()
def revive_dead(codebook: Tensor, counts: Tensor, pool: Tensor, generator: torch.Generator) -> Tensor:
    """Put each centroid that nobody chose onto a row that is badly served.

    Rows are drawn without replacement with a probability proportional to their squared distance from the nearest
    centroid, the draw of k-means++ (Arthur and Vassilvitskii, 2007).

    Parameters
    ----------
    codebook : Tensor of shape (codebook_size, dim)
        Changed in place.
    counts : Tensor of shape (codebook_size,), integer dtype
        How often each code was chosen; those with 0 are dead.
    pool : Tensor of shape (n_items, dim)
        Rows that the level quantizes.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    revived : Tensor of shape (n_revived,), dtype int64
        Codes that were moved: all dead ones, unless the pool has fewer rows off the living centroids.
    """
    dead = torch.nonzero(counts == 0)[:, 0]
    alive = codebook[counts > 0]
    if not len(dead):
        return dead
    cost = nearest_codes(pool, alive)[1].double().cpu() if len(alive) else torch.ones(len(pool), dtype=torch.float64)
    dead = dead[: int((cost > 0).sum())]
    if len(dead):
        rows = torch.multinomial(cost, len(dead), generator=generator).to(pool.device)
        codebook[dead] = pool[rows].to(codebook.dtype)
    return dead
