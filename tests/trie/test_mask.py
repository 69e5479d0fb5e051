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
def test_equal_to_the_oracle(backend, dtype, contiguous):
    trie = semid.Trie.from_codes(CODES)
    scores = torch.randn(3, 9, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = np.full((3, 9), -np.inf)
    expected[:2] = mask_oracle(CODES, [(0,), (1,)], scores[:2].double().numpy(), TOKENS)
    if not contiguous:
        scores = scores.T.contiguous().T
    mask_torch_inplace(trie, scores, trie.walk([[0], [1], [2]]), depth=1, tokens=TOKENS)
    assert (scores.double().numpy() == expected).all()
