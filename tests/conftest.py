"""What the tests share: back ends, the data folder, small unique codes for hypothesis."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from semid.kernels import BACKENDS, available, use_backend

# The same examples on every run and no deadline: these machines are shared and Numba compiles on first use.
settings.register_profile("semid", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("semid")


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Run a test once per back end; one that was not built skips, saying so."""
    missing = available()[request.param]
    if missing:
        pytest.skip(f"back end {request.param} is missing: {missing}")
    with use_backend(request.param):
        yield request.param


@pytest.fixture(scope="session")
def data_folder():
    """Folder of real data sets, from the environment variable SEMID_DATA."""
    folder = os.environ.get("SEMID_DATA")
    if not folder:
        pytest.skip("SEMID_DATA is not set: expected the folder of the data sets")
    return Path(folder)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
