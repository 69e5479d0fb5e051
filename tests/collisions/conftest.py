"""Small quantizers that need no training."""

import numpy as np
import pytest
from oracles import SharedSpecificQuantizer, SumQuantizer


def sum_quantizer(sizes, *, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    return SumQuantizer([rng.standard_normal((size, dim)) / 2**level for level, size in enumerate(sizes)])


def shared_specific_quantizer(shared, specific, *, views=("semantic", "collaborative"), dim=2, seed=0):
    rng = np.random.default_rng(seed)
    return SharedSpecificQuantizer(
        views,
        [rng.standard_normal((size, dim * len(views))) for size in shared],
        {view: [rng.standard_normal((size, dim)) / 2 for size in specific] for view in views} if specific else {},
    )


@pytest.fixture
def quantizer_2x2():
    return sum_quantizer((2, 2))


@pytest.fixture
def make_quantizer():
    return sum_quantizer


@pytest.fixture
def make_views_quantizer():
    return shared_specific_quantizer


@pytest.fixture
def short_lists(monkeypatch):
    """Make the resolver work with lists of 2, 4 and 8 IDs, as it does on large catalogues with longer ones."""
    for name, value in {"COMPLETE_PAIRS": 0, "COUNT": 2, "MOST_COUNT": 2, "WIDENING": 2, "ROUNDS": 2}.items():
        monkeypatch.setattr(f"semid.collisions.nearest.{name}", value)
    monkeypatch.setattr("semid.collisions.auction.LEAST_FILL", 2.0)


@pytest.fixture
def auction(monkeypatch):
    """Make the resolver hold auctions however few IDs are needed."""
    monkeypatch.setattr("semid.collisions.nearest.COMPLETE_PAIRS", 0)
    monkeypatch.setattr("semid.collisions.auction.LEAST_FILL", 0.0)
