import numpy as np
import torch
from oracles import moving_average_oracle

from semid.quantizers.networks.modules import (
    count_codes,
    move_codebook,
    nearest_codes,
    revive_dead,
    squared_distances,
)


def test_nearest_codes_and_distances(rng):
    x, codebook = rng.normal(size=(40, 6)), rng.normal(size=(9, 6))
    expected = ((x[:, None] - codebook[None]) ** 2).sum(axis=2)
    codes, distance = nearest_codes(torch.tensor(x), torch.tensor(codebook))
    np.testing.assert_array_equal(codes, expected.argmin(axis=1))
    np.testing.assert_allclose(distance, expected.min(axis=1), atol=1e-12)
    np.testing.assert_allclose(squared_distances(torch.tensor(x), torch.tensor(codebook)), expected, atol=1e-12)


def test_ties_go_to_the_lower_code_and_distances_are_never_negative():
    codebook = torch.full((4, 3), 1e4)
    codes, distance = nearest_codes(codebook[:2] + 1e-4, codebook)
    assert codes.tolist() == [0, 0]
    assert (distance >= 0).all() and (squared_distances(codebook, codebook) >= 0).all()


def test_counts_cover_all_codes():
    assert count_codes(torch.tensor([2, 0, 2]), 4).tolist() == [1, 0, 2, 0]


def test_moving_averages(rng):
    codebook, sums = rng.normal(size=(2, 4, 3))
    sizes, x, codes = rng.uniform(1, 3, 4), rng.normal(size=(10, 3)), rng.integers(0, 3, 10)
    expected = moving_average_oracle(codebook, sizes, sums, x, codes, 0.9)
    found = [torch.tensor(array) for array in (codebook, sizes, sums)]
    move_codebook(*found, torch.tensor(x), torch.tensor(codes), decay=0.9)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-12)


def test_a_code_that_faded_away_keeps_its_place():
    codebook, sizes, sums = torch.ones(2, 2), torch.tensor([1e-6, 1.0]), torch.zeros(2, 2)
    move_codebook(codebook, sizes, sums, torch.ones(1, 2), torch.tensor([1]), decay=0.5)
    assert codebook[0].tolist() == [1.0, 1.0]


def test_dead_codes_move_to_badly_served_rows():
    codebook = torch.tensor([[0.0, 0.0], [5.0, 5.0], [7.0, 7.0]])
    pool = torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    revived = revive_dead(codebook, torch.tensor([4, 0, 0]), pool, torch.Generator().manual_seed(0))
    assert revived.tolist() == [1, 2]
    assert codebook[0].tolist() == [0.0, 0.0]
    assert sorted(codebook[1:].tolist()) == [[0.0, 9.0], [9.0, 0.0]]


def test_without_rows_to_serve_the_dead_stay():
    codebook = torch.tensor([[1.0], [5.0]])
    revived = revive_dead(codebook, torch.tensor([3, 0]), torch.ones(4, 1), torch.Generator())
    assert revived.tolist() == [] and codebook.tolist() == [[1.0], [5.0]]


def test_when_all_are_dead_all_move():
    codebook = torch.full((3, 1), 100.0)
    pool = torch.arange(5.0)[:, None]
    assert len(revive_dead(codebook, torch.zeros(3), pool, torch.Generator().manual_seed(1))) == 3
    assert len(set(codebook[:, 0].tolist())) == 3 and codebook.max() < 5


def test_the_living_stay_when_nobody_is_dead():
    codebook = torch.eye(2)
    assert not len(revive_dead(codebook, torch.ones(2), torch.eye(2), torch.Generator()))
