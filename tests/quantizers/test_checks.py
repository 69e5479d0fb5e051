import re

import numpy as np
import pytest

from semid.errors import InvalidTypeError, InvalidValueError
from semid.quantizers.checks import check_init, check_unchanged


@pytest.mark.parametrize(
    "call, error, text",
    [
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
            lambda: check_unchanged({"n_levels": 3}, {"n_levels": 2}),
            InvalidValueError,
            "n_levels is not that of the fit: expected 2, got 3. Set it back with set_params, or call fit.",
        ),
    ],
)
def test_wrong_arguments_are_refused(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()
