"""From arrays to a network and back: its scales, its layers, what a quantizer keeps of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from semid._arrays import Matrix, Rows
from semid.quantizers.networks.dense import Layer
from semid.quantizers.networks.training import pick_device
from semid.quantizers.shared_specific_rqvae.network import SharedSpecificNetwork
from semid.quantizers.shared_specific_rqvae.parts import Architecture, Fitted, Layers
from semid.quantizers.shared_specific_rqvae.recipes import Recipe
from semid.quantizers.views import Scaling, fit_scaling

__all__ = ["build_network", "export", "restore", "scale_view"]


def build_network(
    dims: Mapping[str, int], architecture: Architecture, *, recipe: Recipe, seed: int
) -> SharedSpecificNetwork:
    """Return a network with random layers on its device, the same for the same seed on every device."""
    device = pick_device(recipe.training.device)
    precision = recipe.training.precision
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SharedSpecificNetwork(
            dims,
            **architecture._asdict(),
            recipe=recipe,
            low_precision=precision == "bfloat16" or (precision == "auto" and device.type != "cpu"),
        )
    network.to(device)
    network.forget_counts()
    return network


def scale_view(matrix: npt.NDArray[np.number[Any]], rows: Rows, *, view: str, weight: float, policy: str) -> Scaling:
    """Return the scaling of a view: to a variance of `weight` per dimension, or to nothing but the weight."""
    if policy == "variance":
        return fit_scaling(matrix, rows, view=view, weight=weight * matrix.shape[1])[0]
    return Scaling(np.zeros(matrix.shape[1], np.float32), float(np.sqrt(weight)))


def export(network: SharedSpecificNetwork, scaling: dict[str, Scaling]) -> Fitted:
    """Return what a network learnt, as arrays."""
    views = list(scaling)

    def books(parameters: Sequence[torch.Tensor]) -> tuple[Matrix, ...]:
        return tuple(np.array(book.detach().cpu().numpy()) for book in parameters)

    return Fitted(
        scaling=scaling,
        encoders=dict(zip(views, map(layers_of, network.encoders), strict=True)),
        decoders=dict(zip(views, map(layers_of, network.decoders), strict=True)),
        shared=books(network.shared),
        specific={view: books(own) for view, own in zip(views, network.specific, strict=True)},
    )


def layers_of(perceptron: Any) -> Layers:
    """Return copies of the linear layers of a `torch.nn.Sequential`."""
    return tuple(
        Layer(np.array(each.weight.detach().T.cpu().numpy(), order="C"), np.array(each.bias.detach().cpu().numpy()))
        for each in linears_of(perceptron)
    )


def linears_of(perceptron: Any) -> list[nn.Linear]:
    """Return the layers of a `torch.nn.Sequential` that have weights."""
    return [each for each in perceptron if isinstance(each, nn.Linear)]


@torch.no_grad()
def restore(network: SharedSpecificNetwork, fitted: Fitted) -> None:
    """Set a network to what `export` returned."""
    for perceptrons, layers in ((network.encoders, fitted.encoders), (network.decoders, fitted.decoders)):
        for perceptron, own in zip(perceptrons, layers.values(), strict=True):
            for linear, (weight, bias) in zip(linears_of(perceptron), own, strict=True):
                linear.weight.copy_(torch.from_numpy(np.array(weight.T)))
                linear.bias.copy_(torch.from_numpy(np.array(bias)))
    books = [*fitted.shared, *(book for own in fitted.specific.values() for book in own)]
    for book, values in zip(network.books, books, strict=True):
        book.copy_(torch.from_numpy(np.array(values)))
    network.started.fill_(True)
