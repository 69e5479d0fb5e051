"""The recursion of shared and specific levels on encoded views, its losses, and which of them reach what.

With the encoders E_v, the decoders D_v and the views x_v of a batch:

    z_v = E_v(x_v);  r = [z_1 ; z_2 ; ..]
    shared levels:             c = argmin_k |r - C[k]|^2,  r <- r - C[c]
    split r into r_v; each view's specific levels in the same way with codebooks of its own
    h_v = z_v + sg(sum of the view's chosen centroids - z_v);  y_v = D_v(h_v)
    loss = sum_v mean((x_v - y_v)^2) + mean over all codebooks of mean((sg r - C[c])^2) + beta mean((r - sg C[c])^2)

GenSAR (arXiv:2504.05730), where each quantizer hands ``r - (r + sg(C[c] - r))`` on: a residual without gradient, so
that only the first level commits the encoders; ``committed_levels="all"`` keeps the gradient of ``r``.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from semid.quantizers.networks.modules import (
    ESTIMATORS,
    LevelPass,
    apply_mlp,
    mlp,
    nearest_codes,
    quantization_loss,
    revive_levels,
    run_levels,
    sinkhorn_assign,
    squared_distances,
)
from semid.quantizers.networks.options import Recipe

__all__ = ["SharedSpecificNetwork"]


class Pass(NamedTuple):
    """A forward pass over a batch; views in their order."""

    reconstruction: Tensor
    """Sum over views of the mean squared error, one number."""
    quantization: Tensor
    """Mean over all codebooks of their losses, one number."""
    decoded: list[Tensor]
    """Per view, shape (batch, dim of the view)."""
    shared: LevelPass
    specific: list[LevelPass]


@final
class SharedSpecificNetwork(nn.Module):
    """Encoders, decoders and codebooks of all views.

    Parameters
    ----------
    dims : mapping of str to int
        Dim of each view.
    latent_dims : mapping of str to int
    hidden_sizes : sequence of int
        Of the encoders; the decoders mirror them.
    shared_sizes, specific_sizes : sequence of int
        Codebook sizes of the shared levels, and of each view's specific levels.
    recipe : Recipe
        Its `gradient`, `commitment`, `committed_levels` and, in training mode, `sinkhorn_epsilon` matter here.
    low_precision : bool
        Multiply in bfloat16 inside the layers.

    Attributes
    ----------
    books : torch.nn.ParameterList
        All codebooks in the order of the recursion: the shared levels, then view by view the specific ones. Zeros until
        they are set.
    started : Tensor of shape (), dtype bool
        Whether the codebooks are set. Until then `losses` passes latents to the decoders unquantized.
    """

    started: Tensor

    def __init__(
        self,
        dims: Mapping[str, int],
        latent_dims: Mapping[str, int],
        *,
        hidden_sizes: Sequence[int],
        shared_sizes: Sequence[int],
        specific_sizes: Sequence[int],
        recipe: Recipe,
        low_precision: bool = False,
    ) -> None:
        super().__init__()
        self.latent_dims = [latent_dims[view] for view in dims]
        layers = [[dims[view], *hidden_sizes, latent_dims[view]] for view in dims]
        self.encoders = nn.ModuleList(mlp(sizes) for sizes in layers)
        self.decoders = nn.ModuleList(mlp(sizes[::-1]) for sizes in layers)
        self.n_shared, self.n_specific = len(shared_sizes), len(specific_sizes)
        books = [torch.zeros(size, sum(self.latent_dims)) for size in shared_sizes]
        books += [torch.zeros(size, dim) for dim in self.latent_dims for size in specific_sizes]
        self.books = nn.ParameterList(books)
        self.register_buffer("started", torch.tensor(False))
        self.recipe = recipe
        self.low_precision = low_precision

    def encode(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Return the latents, per view of shape (batch, latent dim)."""
        return self._run(self.encoders, views)

    def decode(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Return the views that latents stand for, per view of shape (batch, dim of the view)."""
        return self._run(self.decoders, latents)

    def losses(self, views: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return "loss" and its parts, each of shape ()."""
        if not self.started:
            reconstruction = reconstruction_loss(views, self.decode(self.encode(views)))
            return {"loss": reconstruction, "reconstruction": reconstruction}
        out = self(views)
        return {
            "loss": out.reconstruction + out.quantization,
            "reconstruction": out.reconstruction,
            "quantization": out.quantization,
        }

    def quantize(self, latents: Sequence[Tensor]) -> tuple[LevelPass, list[LevelPass]]:
        """Run the recursion on latents; returns the shared levels, and each view's specific ones."""
        shared = self._levels(torch.cat(list(latents), dim=1), self.shared, balance_last=False)
        rests = torch.split(shared.rest, self.latent_dims, dim=1)
        return shared, [self._levels(rest, books, balance_last=True)
                        for rest, books in zip(rests, self.specific, strict=True)]  # fmt: skip

    def quantized(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Return what the codes of latents stand for, per view of shape (batch, latent dim)."""
        return self._join(*self.quantize(latents))

    def forward(self, views: Sequence[Tensor]) -> Pass:
        """Return the losses of a batch and what led to them."""
        latents = self.encode(views)
        shared, specific = self.quantize(latents)
        estimate = ESTIMATORS[self.recipe.gradient]
        decoded = self.decode([estimate(z, q) for z, q in zip(latents, self._join(shared, specific), strict=True)])
        losses = shared.losses + [loss for own in specific for loss in own.losses]
        return Pass(
            reconstruction=reconstruction_loss(views, decoded),
            quantization=torch.stack(losses).mean(),
            decoded=decoded,
            shared=shared,
            specific=specific,
        )

    @torch.no_grad()
    def revive(self, views: Sequence[Tensor], generator: torch.Generator) -> int:
        """Move codes that no item of a pool chooses to residuals of badly served items; returns their number.

        Parameters
        ----------
        views : sequence of Tensor of shape (n_items, dim of the view)
        generator : torch.Generator
            On the CPU.
        """
        revived, rest = revive_levels(self.shared, torch.cat(self.encode(views), dim=1), generator)
        for books, part in zip(self.specific, torch.split(rest, self.latent_dims, dim=1), strict=True):
            revived += revive_levels(books, part, generator)[0]
        return sum(map(len, revived))

    @property
    def shared(self) -> list[Tensor]:
        """Codebooks of the shared levels."""
        return list(self.books)[: self.n_shared]

    @property
    def specific(self) -> list[list[Tensor]]:
        """Codebooks of the specific levels of each view."""
        own = list(self.books)[self.n_shared :]
        return [own[view * self.n_specific : (view + 1) * self.n_specific] for view in range(len(self.latent_dims))]

    def _run(self, networks: nn.ModuleList, inputs: Sequence[Tensor]) -> list[Tensor]:
        return [
            apply_mlp(cast(nn.Sequential, network), x, low_precision=self.low_precision)
            for network, x in zip(networks, inputs, strict=True)
        ]

    def _join(self, shared: LevelPass, specific: Sequence[LevelPass]) -> list[Tensor]:
        parts = torch.split(shared.quantized, self.latent_dims, dim=1)
        return [part + own.quantized for part, own in zip(parts, specific, strict=True)]

    def _levels(self, rest: Tensor, codebooks: Sequence[Tensor], *, balance_last: bool) -> LevelPass:
        def choose(rest: Tensor, level: int) -> Tensor:
            codebook = codebooks[level].detach()
            if balance_last and level == len(codebooks) - 1 and self.training and self.recipe.sinkhorn_epsilon > 0:
                return sinkhorn_assign(
                    squared_distances(rest, codebook),
                    epsilon=self.recipe.sinkhorn_epsilon,
                    n_iterations=self.recipe.sinkhorn_iterations,
                )
            return nearest_codes(rest, codebook)[0]

        return run_levels(
            rest,
            codebooks,
            choose=choose,
            loss=partial(quantization_loss, beta=self.recipe.commitment),
            only_first_commits=self.recipe.committed_levels == "first",
        )


def reconstruction_loss(views: Sequence[Tensor], decoded: Sequence[Tensor]) -> Tensor:
    """Return the sum over views of the squared error, its mean over rows and dimensions."""
    return torch.stack([functional.mse_loss(y, x) for x, y in zip(views, decoded, strict=True)]).sum()
