"""C kernels called directly, with arrays that are too short or offsets that do not fit: an error, and no stray read.

`make sanitize` runs this under gcc's address sanitizer, which ends the process at the first read outside of a buffer.
"""

import numpy as np
import pytest
from attack.raw_calls import N_TRIE, calls, mutated

from semid import kernels

pytestmark = pytest.mark.skipif(kernels.available()["ext"] is not None, reason="the C extension was not built")


@pytest.mark.parametrize("name", calls())
def test_arguments_that_do_not_fit(name):
    right, rng = calls()[name], np.random.default_rng(1)
    with kernels.use_backend("ext"):
        kernel = kernels.kernel(name)
        kernel(*right)
        n_refused = 0
        for _ in range(2000):
            changed = mutated(name, right, rng)
            try:
                kernel(*changed)
            except TypeError:
                n_refused += 1
    assert n_refused > 600


@pytest.mark.parametrize("name", calls())
@pytest.mark.parametrize("position", range(N_TRIE))
def test_an_array_of_the_trie_is_missing(name, position):
    changed = calls()[name]
    changed[position] = changed[position][:0]
    with kernels.use_backend("ext"):
        if position in {6, 7}:  # both are empty where all items are alive, and one alone never is
            changed[6 + 7 - position] = changed[6 + 7 - position][:0]
            kernels.kernel(name)(*changed)
        else:
            with pytest.raises(
                TypeError, match=rf"{name} got arrays of a wrong type or shape: expected lengths that a"
            ):
                kernels.kernel(name)(*changed)
