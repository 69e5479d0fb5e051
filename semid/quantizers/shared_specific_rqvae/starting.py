"""Where the codebooks start: residual k-means of all encoded rows, or, as published, k-means of one batch."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from semid._arrays import Matrix
from semid.errors import InvalidValueError
from semid.quantizers.shared_specific_rqvae.network import SharedSpecificNetwork
from semid.quantizers.training import fit_codebooks

__all__ = ["start_from_batch", "start_from_rows"]


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
