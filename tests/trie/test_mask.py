"""Masking torch tensors: every float type, contiguous or not."""

import numpy as np
import pytest
import torch
from oracles import mask_oracle

import semid
from semid.trie.mask import mask_torch_inplace

CODES = np.array([[0, 2], [0, 3], [1, 2]], np.uint8)
TOKENS = np.array([7, 3, 5, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("lost_token", [None, 8])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_equal_to_the_oracle(backend, dtype, contiguous, lost_token, requires_grad):
    trie = semid.Trie.from_codes(CODES)
    scores = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)).to(dtype)
    scores[3, [5, 1]] = -torch.inf  # of all children of its node
    scores[4, 5] = torch.nan  # is no minus infinity
    expected = np.full((5, 9), -np.inf)
    prefixes = [(0,), (1,), (0,), (1,)]
    expected[[0, 1, 3, 4]] = mask_oracle(CODES, prefixes, scores[[0, 1, 3, 4]].double().numpy(), TOKENS)
    if lost_token is not None:
        expected[2, lost_token] = scores[2, lost_token]
    if not contiguous:
        scores = scores.T.contiguous().T
    scores.requires_grad_(requires_grad)
    nodes = trie.walk([[0], [1], [2], [0], [1]])
    with torch.no_grad():
        empty = mask_torch_inplace(trie, scores, nodes, depth=1, tokens=TOKENS, lost_token=lost_token)
    np.testing.assert_array_equal(scores.detach().double().numpy(), expected)
    assert empty.dtype == np.bool_ and empty.tolist() == [False, False, lost_token is None, True, False]
