"""Which scores are left, and what they are, against a scan of the items; on arrays and by index alike."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import alive_children_oracle, nodes_oracle
from strategies import tries

from semid.generation.constraint import FORCED, allow_children, allow_one


@given(
    catalogue=tries(),
    seed=st.integers(0, 2**16),
    dead=st.sampled_from([0.0, 0.5, 1.0]),
    gone=st.sampled_from([0.0, 0.6, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    contiguous=st.booleans(),
)
def test_children_keep_their_scores_and_every_row_a_finite_one(catalogue, seed, dead, gone, dtype, contiguous):
    """Items are out of stock, and scores are -inf, at random; rows have left the trie."""
    codes, sizes, build = catalogue
    rng = np.random.default_rng(seed)
    alive = set(np.flatnonzero(rng.random(len(codes)) >= dead).tolist())
    trie = build().restrict(sorted(alive)) if dead else build()
    depth = int(rng.integers(0, len(sizes)))
    known = sorted(nodes_oracle(codes, depth))
    prefixes = [known[i] for i in rng.integers(0, len(known), 8)]
    nodes = trie.walk(np.array(prefixes).reshape(8, depth))
    nodes[3] = -1
    width = sizes[depth] + 9
    tokens = rng.permutation(width - 1)[: sizes[depth]]  # the last column is no code
    scores = torch.from_numpy(rng.standard_normal((8, width))).to(dtype)
    scores[torch.from_numpy(rng.random((8, width)) < gone)] = -torch.inf
    expected = torch.full_like(scores, -torch.inf)
    for row, prefix in enumerate(prefixes):
        children = [] if row == 3 else sorted(alive_children_oracle(codes, alive, prefix))
        columns = torch.from_numpy(tokens[children]) if children else torch.tensor([width - 1])
        expected[row, columns] = scores[row, columns]
        if expected[row].isneginf().all():
            expected[row, columns] = FORCED
    if not contiguous:
        scores = torch.stack([scores, scores], dim=2)[..., 0]
    assert scores.is_contiguous() == contiguous or scores.shape[1] == 1
    allow_children(trie, scores, nodes, depth=depth, tokens=tokens, lost_token=width - 1)
    assert torch.equal(scores, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_token_for_every_row(dtype):
    scores = torch.tensor([[0.5, 1.0, -2.0], [0.0, -torch.inf, 3.0]], dtype=dtype)
    allow_one(scores, 1)
    inf = torch.inf
    assert torch.equal(scores, torch.tensor([[-inf, 1.0, -inf], [-inf, FORCED, -inf]], dtype=dtype))
