import re

import numpy as np
import pytest

from semid._checks import check_count
from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers.checks import check_codebook_sizes, check_init, check_seed, check_unchanged


@pytest.mark.parametrize("sizes", [8, np.int64(8), [8, 8, 8], (8, 8, 8), np.array([8, 8, 8])], ids=repr)
def test_one_size_or_one_per_level(sizes):
    assert check_codebook_sizes(sizes, 3) == (8, 8, 8)


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda: check_count(0, "beam"), InvalidValueError, "beam is too small: expected 1 or more, got 0. Raise it."),
        (
            lambda: check_count(2.0, "beam"),
            InvalidTypeError,
            "beam is not an integer: expected 1 or more, got 2.0. Pass",
        ),
        (lambda: check_count(True, "beam"), InvalidTypeError, "beam is not an integer: expected 1 or more, got True."),
        (lambda: check_count(-1, "n_shared", least=0), InvalidValueError, "expected 0 or more, got -1"),
        (lambda: check_seed(None), InvalidTypeError, "seed is not an integer: expected 0 or more, got None."),
        (
            lambda: check_codebook_sizes((8, 8), 3),
            InvalidValueError,
            "codebook_size has a wrong length: expected one size "
            "for each of 3 levels, got 2. Add or drop sizes, or pass one number.",
        ),
        (
            lambda: check_codebook_sizes((8, 0), 2),
            InvalidValueError,
            "codebook_size[1] is too small: expected 1 or more",
        ),
        (
            lambda: check_codebook_sizes("88", 2),
            InvalidTypeError,
            "codebook_size has a wrong type: expected an integer or "
            "one per level, got '88'. Pass 256 or (256, 128, 64).",
        ),
        (lambda: check_codebook_sizes(None, 2), InvalidTypeError, "got None"),
        (
            lambda: check_init("pca"),
            InvalidValueError,
            "init is unknown: expected 'progressive', 'k-means++', 'random', got 'pca'. Choose one of them.",
        ),
        (
            lambda: check_init(["k-means++"]),
            InvalidTypeError,
            "init has a wrong type: expected 'progressive', 'k-means++', 'random', got list. Choose one of",
        ),
        (lambda: check_init(np.zeros(2)), InvalidTypeError, "init has a wrong type"),
        (lambda: check_init(None), InvalidValueError, "init is unknown"),
        (
            lambda: check_seed(2**70, below=2**64),
            InvalidValueError,
            f"seed is too large: expected less than {2**64}, got {2**70}. Lower it.",
        ),
        (
            lambda: check_unchanged({"n_levels": 3}, {"n_levels": 2}),
            InvalidValueError,
            "n_levels is not that of the fit: expected 2, got 3. Set it back with set_params, or call fit.",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()
