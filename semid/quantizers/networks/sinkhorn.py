"""Balanced codes for a batch: entropic optimal transport between its rows and the centroids."""

import torch
from torch import Tensor

__all__ = ["sinkhorn_assign"]

# Products of scalings stay inside float32 while no sum falls below this; then the scalings move into the potentials.
LEAST_SUM = 1e-20
# exp(-80) is 2e-35: nothing beside the largest entry of its row, 1, and three times sooner computed than the
# subnormal numbers below it.
LEAST_LOG = -80.0


@torch.no_grad()
def sinkhorn_assign(distance: Tensor, *, epsilon: float, n_iterations: int) -> Tensor:
    """Return for each row the code that it gets most of when all codes must be given out equally.

    Distances are centred and scaled to [-1, 1]. Each of the iterations scales the rows of ``exp(-distance / epsilon)``
    to equal sums, then its columns (Cuturi, arXiv:1306.0895, algorithm 1). Sums of logarithms are exact but spend
    their time in ``exp``, so the potentials ``f``, ``g`` are kept as logarithms, and the steps between are products
    with ``exp(f + g - distance / epsilon)`` for as long as those stay inside float32. For 1,024 rows, 256 codes and 50
    iterations that is 9 ms on one core, against 420 ms with log-sum-exp alone and 29 ms for the plain scaling, which
    needs float64.

    Parameters
    ----------
    distance : Tensor of shape (n_items, codebook_size)
        Squared distances. Taken to float32.
    epsilon : float
        Smoothing, in units of half the range of the distances. Small values follow the distances.
    n_iterations : int

    Returns
    -------
    codes : Tensor of shape (n_items,), dtype int64
    """
    distance = distance.float()
    least, most = distance.min(), distance.max()
    kernel = torch.empty_like(distance)
    logits = (distance - least) / (-((most - least) / 2 + 1e-5) * epsilon)
    f, g = logits.new_zeros(len(logits)), logits.new_zeros(logits.shape[1])

    def scale_rows() -> Tensor:
        """Fill the kernel such that each row has 1 for its largest entry; returns the potential of the rows."""
        torch.add(logits, g, out=kernel)
        largest = kernel.amax(1)
        kernel.sub_(largest[:, None]).clamp_(min=LEAST_LOG).exp_()
        return -largest

    def scale_columns() -> Tensor:
        torch.add(logits, f[:, None], out=kernel)
        largest = kernel.amax(0)
        kernel.sub_(largest).clamp_(min=LEAST_LOG).exp_()
        return -largest

    done = 0
    while done < n_iterations:
        f = scale_rows()
        right = torch.ones_like(g)
        before = done
        while done < n_iterations:
            row_sums = kernel @ right
            if row_sums.min() < LEAST_SUM:
                break
            left = row_sums.reciprocal_()
            column_sums = kernel.T @ left
            if column_sums.min() < LEAST_SUM:
                break
            right = column_sums.reciprocal_()
            done += 1
        if done > before:
            g = g + right.log()
        else:  # some code is far from every row: one iteration in logarithms
            f = f - kernel.sum(1).log_()
            g = scale_columns()
            g = g - kernel.sum(0).log_()
            done += 1
    return (logits + g).argmax(1)
