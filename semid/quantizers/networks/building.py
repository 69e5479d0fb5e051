"""From arrays to a network and back: its scale, its first codebooks, what a quantizer keeps of it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semid._arrays import Matrix, Rows
from semid.quantizers.networks.dense import Layer
from semid.quantizers.networks.options import Training
from semid.quantizers.networks.parts import Architecture, Fitted
from semid.quantizers.networks.residual import ResidualNetwork
from semid.quantizers.networks.training import pick_device
from semid.quantizers.training import fit_codebooks
from semid.quantizers.views import Scaling

__all__ = [
    "blocks_of",
    "build_network",
    "export",
    "fit_scale",
    "multiplies_bfloat16",
    "relative_distortion",
    "restore",
    "start_codebooks",
]

BLOCK_ROWS = 8192


def build_network(dim: int, architecture: Architecture, options: Training, *, seed: int) -> ResidualNetwork:
    """Return a network with random layers on its device, the same for the same seed on every device."""
    device = pick_device(options.device)
    low = options.precision == "bfloat16" or (options.precision == "auto" and multiplies_bfloat16(device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ResidualNetwork(dim, **architecture._asdict(), low_precision=low)
    network.to(device)
    network.forget_counts()
    return network


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for products in bfloat16; elsewhere they are slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Older releases of torch cannot tell.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16"))


def fit_scale(sample: Matrix) -> Scaling:
    """Return how to centre embeddings and to scale them to a variance of 1, mean over dimensions.

    Then the reconstruction loss is the share of the variance that decoded codes miss, whatever the embedding model.
    """
    mean = sample.mean(axis=0, dtype=np.float64)
    variance = float(np.square(sample - mean).mean())
    return Scaling(mean.astype(np.float32), variance**-0.5 if variance > 0 else 1.0)


def blocks_of(rows: Rows) -> Iterator[Rows]:
    """Yield rows in blocks of bounded size."""
    for first in range(0, len(rows), BLOCK_ROWS):
        yield rows[first : first + BLOCK_ROWS]


@torch.no_grad()
def start_codebooks(
    network: ResidualNetwork, blocks: Iterable[Tensor], *, batch_size: int, seed: int, progress: bool = False
) -> None:
    """Set the codebooks to the residual k-means of the latents of standardised embeddings."""
    network.eval()
    latents = torch.cat([network.latents(block).cpu() for block in blocks]).numpy()
    sizes = [len(book) for book in network.codebooks]
    rng = np.random.default_rng(seed)
    codebooks, _ = fit_codebooks(latents, sizes, init="progressive", max_iter=25, rng=rng, progress=progress)
    _set(network, codebooks, batch_size)


@torch.no_grad()
def relative_distortion(network: ResidualNetwork, blocks: Iterable[Tensor]) -> float:
    """Return the mean squared error of decoded codes: a share of the variance, embeddings being standardised."""
    network.eval()
    total, n_values = 0.0, 0
    for block in blocks:
        total += float(network(block)["reconstruction"]) * block.numel()
        n_values += block.numel()
    return total / n_values


def export(network: ResidualNetwork, scaling: Scaling) -> Fitted:
    """Return a copy of what a network has learnt."""
    return Fitted(
        scaling,
        _layers(network.encoder),
        _layers(network.decoder),
        tuple(_copy(book) for book in network.codebooks),
    )


@torch.no_grad()
def restore(network: ResidualNetwork, fitted: Fitted, *, batch_size: int) -> None:
    """Set a network to what `export` returned."""
    for sequence, layers in ((network.encoder, fitted.encoder), (network.decoder, fitted.decoder)):
        for linear, layer in zip(_linears(sequence), layers, strict=True):
            linear.weight.copy_(torch.from_numpy(layer.weight.T.copy()))
            linear.bias.copy_(torch.from_numpy(layer.bias.copy()))
    _set(network, fitted.codebooks, batch_size)


def _set(network: ResidualNetwork, codebooks: Sequence[Matrix], batch_size: int) -> None:
    # As if an average batch of evenly used codes had gone before.
    sizes = [torch.full((len(book),), batch_size / len(book)) for book in codebooks]
    network.set_codebooks([torch.from_numpy(np.array(book)) for book in codebooks], sizes)


def _layers(sequence: nn.Sequential) -> tuple[Layer, ...]:
    return tuple(Layer(np.ascontiguousarray(_copy(each.weight).T), _copy(each.bias)) for each in _linears(sequence))


def _linears(sequence: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in sequence if isinstance(layer, nn.Linear)]


def _copy(tensor: Tensor) -> Matrix:
    return np.array(tensor.detach().cpu().numpy())
