"""The order that lookups by rank stand on."""

import numpy as np
import pytest

from semid.catalog.contents import lexicographic_order


@pytest.mark.parametrize("sizes", [(3, 5), (256, 256, 256), (2**20, 2**20, 2**24), (2**32, 2**32), (2**32, 2**32, 2)])
def test_the_order_is_that_of_tuples(sizes, rng):
    codes = np.stack([rng.integers(0, min(size, 4), 300) * (size // 4 or 1) for size in sizes], axis=1).astype(
        np.uint32
    )
    order = lexicographic_order(codes, sizes)
    assert order.dtype == np.uint32
    assert order.tolist() == sorted(range(300), key=lambda row: codes[row].tolist())
