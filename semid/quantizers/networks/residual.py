"""The network of RQVAE: an encoder, residual codebooks on its latents, a decoder, and the loss of a batch.

With the encoder E, the decoder D and an embedding x:

    z = E(x);  r_1 = z;  c_l = argmin_k |r_l - C_l[k]|^2;  r_{l+1} = r_l - sg(C_l[c_l]);  q = sum_l C_l[c_l]
    loss = mean (x - D(pass(z, q)))^2 + sum_l [mean (sg(r_l) - C_l[c_l])^2 + beta mean (r_l - sg(C_l[c_l]))^2]

where ``pass`` has the value q and hands its gradient to z (RQ-VAE of TIGER, arXiv:2305.05065, section 3.1). Residuals
keep the gradient of z, so that every level commits the encoder. Codebooks that are moving averages drop the first term
in brackets.
"""

import math
from collections.abc import Sequence
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from semid.quantizers.networks.modules import (
    ESTIMATORS,
    apply_mlp,
    count_codes,
    mlp,
    move_codebook,
    nearest_codes,
    quantization_loss,
    revive_levels,
    run_levels,
    sinkhorn_assign,
    squared_distances,
)
from semid.quantizers.networks.options import CodeLearning

__all__ = ["ResidualNetwork"]


@final
class ResidualNetwork(nn.Module):
    """Encoder, residual codebooks and decoder.

    Parameters
    ----------
    dim : int
        Of the embeddings.
    hidden_sizes : sequence of int
        Of the encoder; the decoder mirrors them.
    latent_dim : int
    codebook_sizes : sequence of int
    learning : CodeLearning
    low_precision : bool
        Multiply in bfloat16 inside the layers.

    Attributes
    ----------
    codebooks : torch.nn.ParameterList
        One of shape (codebook_size, latent_dim) per level; zeros until `set_codebooks`.
    started : Tensor of shape (), dtype bool
        Whether the codebooks are set. Until then a batch passes through unquantized.
    counts : list of Tensor of shape (codebook_size,), dtype int64
        How often each code was chosen in training since `take_counts`.
    """

    started: Tensor

    def __init__(
        self,
        dim: int,
        *,
        hidden_sizes: Sequence[int],
        latent_dim: int,
        codebook_sizes: Sequence[int],
        learning: CodeLearning,
        low_precision: bool = False,
    ) -> None:
        super().__init__()
        sizes = [dim, *hidden_sizes, latent_dim]
        self.encoder = mlp(sizes)
        self.decoder = mlp(sizes[::-1])
        by_loss = learning.update == "loss"
        self.codebooks = nn.ParameterList(
            nn.Parameter(torch.zeros(size, latent_dim), requires_grad=by_loss) for size in codebook_sizes
        )
        for level, size in enumerate(codebook_sizes):
            self.register_buffer(f"sizes_{level}", torch.zeros(size))
            self.register_buffer(f"sums_{level}", torch.zeros(size, latent_dim))
        self.register_buffer("started", torch.tensor(False))
        self.learning = learning
        self.balanced = learning.balanced_levels(len(codebook_sizes))
        self.low_precision = low_precision
        self.counts = self._no_counts()

    def latents(self, x: Tensor) -> Tensor:
        """Return the latents of embeddings, shape (batch, latent_dim), dtype float32."""
        z = apply_mlp(self.encoder, x, low_precision=self.low_precision)
        return scale_latents(z) if self.learning.distance == "cosine" else z

    def decode(self, latents: Tensor) -> Tensor:
        """Return the embeddings that latents stand for, shape (batch, dim), dtype float32."""
        return apply_mlp(self.decoder, latents, low_precision=self.low_precision)

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        """Return the loss of a batch and its parts; in training mode, count codes and move averages.

        Parameters
        ----------
        x : Tensor of shape (batch, dim), dtype float32

        Returns
        -------
        terms : dict of str to Tensor of shape ()
            "loss" and its parts "reconstruction" and, with codebooks, "quantization".
        """
        z = self.latents(x)
        if not self.started:
            reconstruction = functional.mse_loss(self.decode(z), x)
            return {"loss": reconstruction, "reconstruction": reconstruction}
        levels = run_levels(z, list(self.codebooks), choose=self._choose, loss=self._loss)
        if self.training:
            for level, (rest, codes) in enumerate(zip(levels.inputs, levels.codes, strict=True)):
                self._note(level, rest.detach(), codes)
        quantization = sum(levels.losses, start=z.new_zeros(()))
        decoded = self.decode(ESTIMATORS[self.learning.gradient](z, levels.quantized))
        reconstruction = functional.mse_loss(decoded, x)
        return {
            "loss": reconstruction + quantization,
            "reconstruction": reconstruction,
            "quantization": quantization,
        }

    @torch.no_grad()
    def set_codebooks(self, codebooks: Sequence[Tensor], sizes: Sequence[Tensor]) -> None:
        """Start from codebooks that were learnt elsewhere.

        Parameters
        ----------
        codebooks : sequence of Tensor of shape (codebook_size, latent_dim)
        sizes : sequence of Tensor of shape (codebook_size,)
            Rows per code in an average batch: the weight of the first moving averages.
        """
        for level, (codebook, size) in enumerate(zip(codebooks, sizes, strict=True)):
            self.codebooks[level].copy_(codebook)
            self._buffer("sizes", level).copy_(size)
            self._buffer("sums", level).copy_(codebook * size[:, None])
        self.started.fill_(True)
        self.counts = self._no_counts()

    def take_counts(self) -> list[Tensor]:
        """Return how often each code was chosen, and count from zero again."""
        counts, self.counts = self.counts, self._no_counts()
        return counts

    def _no_counts(self) -> list[Tensor]:
        return [torch.zeros(len(book), dtype=torch.int64, device=book.device) for book in self.codebooks]

    @torch.no_grad()
    def revive(self, pool: Tensor, generator: torch.Generator) -> int:
        """Move codes that no embedding of a pool chooses to residuals of badly served ones; returns their number.

        Parameters
        ----------
        pool : Tensor of shape (n_items, dim), dtype float32
        generator : torch.Generator
            On the CPU.
        """
        every, _ = revive_levels(list(self.codebooks), self.latents(pool), generator)
        for level, revived in enumerate(every):
            # As heavy as one row of a batch, so that the next rows can still move it.
            self._buffer("sizes", level)[revived] = 1.0
            self._buffer("sums", level)[revived] = self.codebooks[level][revived]
        return sum(map(len, every))

    def _choose(self, rest: Tensor, level: int) -> Tensor:
        codebook = self.codebooks[level].detach()
        if self.training and level in self.balanced:
            return sinkhorn_assign(
                squared_distances(rest, codebook),
                epsilon=self.learning.sinkhorn_epsilon,
                n_iterations=self.learning.sinkhorn_iterations,
            )
        return nearest_codes(rest, codebook)[0]

    def _loss(self, rest: Tensor, chosen: Tensor) -> Tensor:
        if self.learning.update == "loss":
            return quantization_loss(rest, chosen, beta=self.learning.commitment)
        return self.learning.commitment * functional.mse_loss(rest, chosen.detach())

    def _note(self, level: int, rest: Tensor, codes: Tensor) -> None:
        """Count the codes of a batch, and move the averages."""
        codebook = self.codebooks[level]
        self.counts[level] += count_codes(codes, len(codebook))
        if self.learning.update == "ema":
            move_codebook(
                codebook, self._buffer("sizes", level), self._buffer("sums", level), rest, codes,
                decay=self.learning.ema_decay,
            )  # fmt: skip

    def _buffer(self, name: str, level: int) -> Tensor:
        return cast(Tensor, getattr(self, f"{name}_{level}"))


def scale_latents(z: Tensor) -> Tensor:
    """Scale rows to the length ``sqrt(dim)``: their squared distance is then ``2 dim (1 - cos)``."""
    length: Tensor = torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp_min(1e-12)
    return z * math.sqrt(z.shape[1]) / length
