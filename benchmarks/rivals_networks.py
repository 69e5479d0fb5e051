"""The training step of GenSAR's identifier as published, in plain PyTorch, the rival of semid's network quantizers.

An MLP encoder per view, levels that quantize the joined latents, then levels for each view's part of what those left
over, an MLP decoder per view (GenSAR, arXiv:2504.05730, and its released settings). With one view and no shared levels
it is the RQ-VAE of LC-Rec (arXiv:2311.09049), whose last level is balanced in the same way.
"""

from itertools import pairwise

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import nn
from torch.nn import functional

__all__ = ["PlainIdentifier", "train_epoch"]

HIDDEN = (512, 256, 128, 64)
BETA = 0.25
EPSILON, SINKHORN_ITERATIONS = 0.003, 50


class PlainIdentifier(nn.Module):
    """Encoders, codebooks and decoders; calling it returns the loss of a batch of one tensor per view."""

    def __init__(self, dims, *, n_shared=2, n_specific=2, codebook_size=256, latent_dim=32):
        super().__init__()
        self.encoders = nn.ModuleList(_mlp((dim, *HIDDEN, latent_dim)) for dim in dims)
        self.decoders = nn.ModuleList(_mlp((latent_dim, *HIDDEN[::-1], dim)) for dim in dims)
        self.shared = _codebooks(n_shared, codebook_size, latent_dim * len(dims))
        self.specific = nn.ModuleList(_codebooks(n_specific, codebook_size, latent_dim) for _ in dims)
        self.latent_dim, self.initialized = latent_dim, False

    def forward(self, views):
        latents = [encode(x) for encode, x in zip(self.encoders, views, strict=True)]
        total, rest, losses = 0.0, torch.cat(latents, dim=1), []
        for codebook in self.shared:
            rest, total = self._level(codebook, rest, total, losses, balanced=False)
        loss = 0.0
        for i, (x, books, decode) in enumerate(zip(views, self.specific, self.decoders, strict=True)):
            own = slice(i * self.latent_dim, (i + 1) * self.latent_dim)
            own_rest, own_total = rest[:, own], total[:, own] if len(self.shared) else 0.0
            for level, codebook in enumerate(books):
                last = level == len(books) - 1
                own_rest, own_total = self._level(codebook, own_rest, own_total, losses, balanced=last)
            loss = loss + functional.mse_loss(decode(own_total), x)
        self.initialized = True
        return loss + torch.stack(losses).mean()

    @torch.no_grad()
    def used_codes(self, views):
        """Return the smallest share of a level's codes that the items (one tensor per view) choose by distance."""
        rest, shares = torch.cat([encode(x) for encode, x in zip(self.encoders, views, strict=True)], dim=1), []
        for codebook in self.shared:
            rest = self._subtract(codebook, rest, shares)
        for part, books in zip(rest.split(self.latent_dim, dim=1), self.specific, strict=True):
            for codebook in books:
                part = self._subtract(codebook, part, shares)
        return min(shares)

    def _subtract(self, codebook, rest, shares):
        codes = torch.cdist(rest, codebook.weight).argmin(1)
        shares.append(len(codes.unique()) / len(codebook.weight))
        return rest - codebook(codes)

    def _level(self, codebook, rest, total, losses, *, balanced):
        if not self.initialized:
            points = rest.detach().numpy()
            centroids = (
                KMeans(len(codebook.weight), max_iter=100, n_init=1, random_state=0).fit(points).cluster_centers_
            )
            codebook.weight.data.copy_(torch.from_numpy(centroids))
        weight = codebook.weight
        distance = (rest**2).sum(1, keepdim=True) + (weight**2).sum(1) - 2 * rest @ weight.T
        codes = _sinkhorn(distance.detach()).argmax(1) if balanced else distance.argmin(1)
        chosen = codebook(codes)
        losses.append(functional.mse_loss(chosen, rest.detach()) + BETA * functional.mse_loss(rest, chosen.detach()))
        passed = rest + (chosen - rest).detach()  # straight-through
        return rest - passed, total + passed


def train_epoch(model, optimizer, views, *, batch_size=1024, seed=0):
    """Train one epoch; `views` is one float32 array per view."""
    order = np.random.default_rng(seed).permutation(len(views[0]))
    tensors = [torch.from_numpy(view) for view in views]
    for start in range(0, len(order), batch_size):
        rows = torch.from_numpy(order[start : start + batch_size])
        optimizer.zero_grad()
        model([view[rows] for view in tensors]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def _mlp(sizes):
    layers = []
    for n_in, n_out in pairwise(sizes):
        linear = nn.Linear(n_in, n_out)
        nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [nn.Dropout(0.0), linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _codebooks(n_levels, codebook_size, dim):
    return nn.ModuleList(nn.Embedding(codebook_size, dim) for _ in range(n_levels))


def _sinkhorn(distance):
    """Return a balanced plan: rows of items and columns of codes carry equal mass in turn, in float64."""
    middle = (distance.max() + distance.min()) / 2
    plan = torch.exp(-((distance - middle) / (distance.max() - middle + 1e-5)).double() / EPSILON)
    n_items, n_codes = plan.shape
    plan /= plan.sum()
    for _ in range(SINKHORN_ITERATIONS):
        plan /= plan.sum(1, keepdim=True) * n_items
        plan /= plan.sum(0, keepdim=True) * n_codes
    return plan
