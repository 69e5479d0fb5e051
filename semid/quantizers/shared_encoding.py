"""Codes of several views: shared levels of all views joined, then specific levels of what each has left over."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from semid._arrays import CodeArray
from semid.io.matrices import check_codes
from semid.quantizers.residual import ResidualKMeans

__all__ = ["encode_shared_specific", "quantizer_of"]

BLOCK_ROWS = 16_384


def encode_shared_specific(
    n_items: int,
    parts_of: Callable[[slice], dict[str, npt.NDArray[np.float32]]],
    shared: ResidualKMeans | None,
    specific: Mapping[str, ResidualKMeans | None],
    columns: Mapping[str, slice],
    *,
    sizes: Sequence[int],
    beam: int,
) -> dict[str, CodeArray]:
    """Return the codes of each view, shape (n_items, n_shared + n_specific), block by block.

    Parameters
    ----------
    n_items : int
    parts_of : callable
        Block of rows -> view -> ndarray of shape (n_rows, dim of the view), in the space of the codebooks.
    shared : ResidualKMeans or None
        Of the joined views; None without shared levels.
    specific : mapping of str to ResidualKMeans or None
        Per view; None without specific levels.
    columns : mapping of str to slice
        Where each view stands among the joined columns.
    sizes : sequence of int
        Number of codes of each level.
    beam : int
    """
    n_shared = 0 if shared is None else shared.n_levels
    codes = {view: check_codes(np.zeros((n_items, len(sizes)), np.uint8), sizes) for view in specific}
    for first in range(0, n_items, BLOCK_ROWS):
        block = slice(first, min(first + BLOCK_ROWS, n_items))
        parts = parts_of(block)
        if shared is not None:
            joined = np.concatenate(list(parts.values()), axis=1)
            found = shared.encode(joined, beam=beam)
            joined -= shared.decode(found)
            for view, own in columns.items():
                codes[view][block, :n_shared] = found
                parts[view] = joined[:, own]
        for view, quantizer in specific.items():
            if quantizer is not None:
                codes[view][block, n_shared:] = quantizer.encode(parts[view], beam=beam)
    return codes


def quantizer_of(codebooks: Sequence[npt.NDArray[np.float32]]) -> ResidualKMeans | None:
    """Return the quantizer of residual levels, None where there are none."""
    return ResidualKMeans.from_codebooks(codebooks) if codebooks else None
