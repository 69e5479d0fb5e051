"""The torch mirror gives what the trie gives, compiled or not, on every device there is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import nodes_oracle
from strategies import tries

import semid
from semid.errors import InvalidValueError
from semid.trie.torch_mirror import TorchTrie

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


@pytest.mark.parametrize("device", DEVICES)
@given(catalogue=tries(), seed=st.integers(0, 2**16), k=st.integers(1, 12), dead=st.sampled_from([0.0, 0.5, 1.0]))
def test_select_and_mask_are_those_of_the_trie(device, catalogue, seed, k, dead):
    codes, sizes, build = catalogue
    trie, rng = build(), np.random.default_rng(seed)
    if dead:
        trie = trie.restrict(rng.random(len(codes)) >= dead)
    depth = int(rng.integers(0, len(sizes)))
    known = np.array(sorted(nodes_oracle(codes, depth))).reshape(len(nodes_oracle(codes, depth)), depth)
    nodes = np.append(trie.walk(known), -1)[rng.integers(0, len(known) + 1, (3, 4))]
    log_probs = rng.integers(-3, 1, (3, 4, sizes[depth])).astype(np.float32)
    log_probs[rng.random(log_probs.shape) < 0.1] = -np.inf
    start = rng.integers(-3, 1, (3, 4)).astype(np.float32)
    mirror = TorchTrie(trie).to(device)
    args = [torch.from_numpy(array).to(device) for array in (log_probs, start, nodes)]
    expected = trie.select(log_probs, start, nodes, depth=depth, k=k)
    for one, other in zip(mirror.select(*args, depth=depth, k=k), expected, strict=True):
        assert one.cpu().numpy().tolist() == other.tolist()
    tokens = rng.permutation(sizes[depth] + 5)[: sizes[depth]]
    scores = rng.standard_normal((12, sizes[depth] + 5)).astype(np.float32)
    masked = mirror.mask(
        torch.from_numpy(scores).to(device), args[2].flatten(), depth=depth, tokens=torch.from_numpy(tokens).to(device)
    )
    trie.mask_inplace(scores, nodes.ravel(), depth=depth, tokens=tokens)
    assert (masked.cpu().numpy() == scores).all()


@pytest.mark.parametrize("device", DEVICES)
def test_one_graph_without_breaks(device, rng):
    codes = np.unique(rng.integers(0, 9, (300, 3)), axis=0)
    trie = semid.Trie.from_codes(codes)
    mirror = TorchTrie(trie).to(device)
    step = torch.compile(mirror.select, backend="eager", fullgraph=True)
    scores, nodes = torch.zeros(2, 1, device=device), torch.zeros(2, 1, dtype=torch.int64, device=device)
    plain_scores, plain_nodes = scores.cpu().numpy(), nodes.cpu().numpy()
    for depth in range(3):
        log_probs = torch.randn(2, nodes.shape[1], 9, generator=torch.Generator().manual_seed(depth))
        scores, _, _, nodes = step(log_probs.to(device), scores, nodes, depth=depth, k=5)
        plain_scores, _, _, plain_nodes = trie.select(log_probs, plain_scores, plain_nodes, depth=depth, k=5)
        assert (nodes.cpu().numpy() == plain_nodes).all() and (scores.cpu().numpy() == plain_scores).all()


def test_a_depth_without_children():
    mirror = TorchTrie(semid.Trie.from_codes([[0]]))
    with pytest.raises(InvalidValueError, match=r"expected 0 \.\. 0, got 1"):
        mirror.select(torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64), depth=1, k=1)
