"""From options to torch modules, their first codebooks, and back to arrays."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from semid._arrays import Matrix, Rows
from semid.errors import InvalidValueError
from semid.quantizers.learnt import Scaling, fit_scaling
from semid.quantizers.levels import fit_codebooks
from semid.quantizers.networks.layers import Architecture, Fitted, FittedViews, Layer, Layers, ViewsArchitecture
from semid.quantizers.networks.options import Recipe, Training
from semid.quantizers.networks.residual import ResidualNetwork
from semid.quantizers.networks.shared_specific import SharedSpecificNetwork
from semid.quantizers.networks.training import pick_device

__all__ = [
    "blocks_of",
    "build_network",
    "build_views_network",
    "export",
    "export_views",
    "fit_scale",
    "restore",
    "restore_views",
    "scale_view",
    "start_codebooks",
    "start_from_batch",
    "start_from_rows",
]


LOADED_ROWS = 8192


def build_network(dim: int, architecture: Architecture, options: Training, *, seed: int) -> ResidualNetwork:
    """Return a network with random layers on its device, the same for the same seed on every device."""
    device = pick_device(options.device)
    low = options.precision == "bfloat16" or (options.precision == "auto" and multiplies_bfloat16(device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ResidualNetwork(dim, **architecture._asdict(), low_precision=low)
    network.to(device)
    network.take_counts()  # those of the constructor are on the CPU
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


def blocks_of(rows: Rows, size: int = LOADED_ROWS) -> Iterator[Rows]:
    """Yield rows in blocks of bounded size."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


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


def export(network: ResidualNetwork, scaling: Scaling) -> Fitted:
    """Return a copy of what a network has learnt."""
    return Fitted(
        scaling,
        layers_of(network.encoder),
        layers_of(network.decoder),
        tuple(map(array_of, network.codebooks)),
    )


@torch.no_grad()
def restore(network: ResidualNetwork, fitted: Fitted, *, batch_size: int) -> None:
    """Set a network to what `export` returned."""
    for sequence, layers in ((network.encoder, fitted.encoder), (network.decoder, fitted.decoder)):
        set_layers(sequence, layers)
    _set(network, fitted.codebooks, batch_size)


def _set(network: ResidualNetwork, codebooks: Sequence[Matrix], batch_size: int) -> None:
    # As if an average batch of evenly used codes had gone before.
    sizes = [torch.full((len(book),), batch_size / len(book)) for book in codebooks]
    network.set_codebooks([torch.from_numpy(np.array(book)) for book in codebooks], sizes)


def build_views_network(
    dims: Mapping[str, int], architecture: ViewsArchitecture, *, recipe: Recipe, seed: int
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
    return network


def scale_view(matrix: npt.NDArray[np.number[Any]], rows: Rows, *, view: str, weight: float, policy: str) -> Scaling:
    """Return the scaling of a view: to a variance of `weight` per dimension, or to nothing but the weight."""
    if policy == "variance":
        return fit_scaling(matrix, rows, view=view, weight=weight * matrix.shape[1])[0]
    return Scaling(np.zeros(matrix.shape[1], np.float32), float(np.sqrt(weight)))


def export_views(network: SharedSpecificNetwork, scaling: dict[str, Scaling]) -> FittedViews:
    """Return what a network learnt, as arrays."""
    views = list(scaling)

    return FittedViews(
        scaling=scaling,
        encoders=dict(zip(views, map(layers_of, network.encoders), strict=True)),
        decoders=dict(zip(views, map(layers_of, network.decoders), strict=True)),
        shared=tuple(map(array_of, network.shared)),
        specific={view: tuple(map(array_of, own)) for view, own in zip(views, network.specific, strict=True)},
    )


def layers_of(perceptron: Any) -> Layers:
    """Return copies of the linear layers of a `torch.nn.Sequential`."""
    return tuple(
        Layer(np.ascontiguousarray(array_of(each.weight).T), array_of(each.bias)) for each in linears_of(perceptron)
    )


@torch.no_grad()
def set_layers(perceptron: Any, layers: Layers) -> None:
    """Set the linear layers of a `torch.nn.Sequential` to what `layers_of` returned."""
    for linear, (weight, bias) in zip(linears_of(perceptron), layers, strict=True):
        linear.weight.copy_(torch.from_numpy(np.array(weight.T)))
        linear.bias.copy_(torch.from_numpy(np.array(bias)))


def array_of(tensor: Tensor) -> Matrix:
    """Return a copy of a tensor's values."""
    return np.array(tensor.detach().cpu().numpy())


def linears_of(perceptron: Any) -> list[nn.Linear]:
    """Return the layers of a `torch.nn.Sequential` that have weights."""
    return [each for each in perceptron if isinstance(each, nn.Linear)]


@torch.no_grad()
def restore_views(network: SharedSpecificNetwork, fitted: FittedViews) -> None:
    """Set a network to what `export_views` returned."""
    for perceptrons, layers in ((network.encoders, fitted.encoders), (network.decoders, fitted.decoders)):
        for perceptron, own in zip(perceptrons, layers.values(), strict=True):
            set_layers(perceptron, own)
    books = [*fitted.shared, *(book for own in fitted.specific.values() for book in own)]
    for book, values in zip(network.books, books, strict=True):
        book.copy_(torch.from_numpy(np.array(values)))
    network.started.fill_(True)


@torch.no_grad()
def start_from_rows(
    network: SharedSpecificNetwork, latents: Sequence[torch.Tensor], *, rng: np.random.Generator
) -> None:
    """Set all codebooks by residual k-means: shared levels on the joined latents, the others on what they leave.

    Parameters
    ----------
    network : SharedSpecificNetwork
    latents : sequence of tensor of shape (n_rows, latent dim), dtype float32
        Encoded training rows, one per view.
    rng : numpy.random.Generator
    """
    rest = torch.cat(list(latents), dim=1).cpu().numpy().copy()
    _set_levels(network.shared, rest, rng)
    network.started.fill_(True)
    columns = np.cumsum(network.latent_dims)[:-1]
    for books, part in zip(network.specific, np.split(rest, columns, axis=1), strict=True):
        _set_levels(books, np.ascontiguousarray(part), rng)


@torch.no_grad()
def start_from_batch(network: SharedSpecificNetwork, views: Sequence[torch.Tensor], *, seed: int) -> None:
    """Set each codebook by k-means of what the levels before it leave of one batch, in the order of the recursion.

    Raises
    ------
    InvalidValueError
        If the batch has fewer rows than a codebook has codes.
    """
    largest = max(len(book) for book in network.books)
    if len(views[0]) < largest:
        raise InvalidValueError(
            f"the first batch is too small: expected at least {largest} rows, the codebook_size, got {len(views[0])}. "
            "Raise batch_size, or take start='all-rows'."
        )
    network.eval()  # nearest codes, also where training balances them
    latents = network.encode(views)
    for book in network.shared:
        # Codebooks are zero before they are set, so at that moment the last residual is this level's input.
        book.copy_(_kmeans(network.quantize(latents)[0].rest, len(book), seed))
    for view, books in enumerate(network.specific):
        for book in books:
            book.copy_(_kmeans(network.quantize(latents)[1][view].rest, len(book), seed))
    network.started.fill_(True)
    network.train()


def _set_levels(books: Sequence[torch.Tensor], rest: Matrix, rng: np.random.Generator) -> None:
    """Fill codebooks; what they leave over stays in `rest`."""
    if len(books):
        found, _ = fit_codebooks(rest, [len(book) for book in books], init="progressive", max_iter=25, rng=rng)
        for book, values in zip(books, found, strict=True):
            book.copy_(torch.from_numpy(np.asarray(values)))


def _kmeans(rest: torch.Tensor, size: int, seed: int) -> torch.Tensor:
    with warnings.catch_warnings():
        # Fewer distinct rows than codes: the spare codes repeat others, which harms nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # scikit-learn takes seeds of 32 bits.
        means = KMeans(size, max_iter=100, random_state=seed % (1 << 32)).fit(rest.cpu().numpy()).cluster_centers_
    return torch.from_numpy(means.astype(np.float32))
