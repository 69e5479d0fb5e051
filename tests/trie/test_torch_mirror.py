"""The torch mirror gives what the trie gives, compiled or not, on every device there is, and waits for none."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import nodes_oracle
from strategies import tries
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._dynamo.testing import CompileCounter

import semid
from semid.errors import InvalidTypeError, InvalidValueError
from semid.trie.selection import RankLists
from semid.trie.torch_mirror import RankTensors, TorchTrie

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


@st.composite
def rank_lists(draw, n_items):
    """Lists of ranks for three requests, in any order and with repetitions; None for some."""
    one = st.none() | st.lists(st.integers(0, n_items - 1), max_size=2 * n_items)
    return draw(st.none() | st.lists(one, min_size=3, max_size=3))


@pytest.mark.parametrize("device", DEVICES)
@given(
    data=st.data(),
    catalogue=tries(),
    seed=st.integers(0, 2**16),
    k=st.integers(1, 12),
    dead=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_select_and_mask_are_those_of_the_trie(device, data, catalogue, seed, k, dead):
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
    exclude, candidates = (data.draw(rank_lists(len(codes))) for _ in range(2))
    mirror = TorchTrie(trie).to(device)
    args = [torch.from_numpy(array).to(device) for array in (log_probs, start, nodes)]
    expected = trie.select(log_probs, start, nodes, depth=depth, k=k, exclude=exclude, candidates=candidates)
    ready = [None if lists is None else mirror.rank_lists(lists) for lists in (exclude, candidates)]
    for unwanted, wanted in (ready, (exclude, candidates)):
        found = mirror.select(*args, depth=depth, k=k, exclude=unwanted, candidates=wanted)
        for one, other in zip(found, expected, strict=True):
            assert one.cpu().numpy().tolist() == other.tolist()
    tokens = rng.permutation(sizes[depth] + 5)[: sizes[depth]]
    scores = rng.standard_normal((12, sizes[depth] + 5)).astype(np.float32)
    masked = mirror.mask(
        torch.from_numpy(scores).to(device), args[2].flatten(), depth=depth, tokens=torch.from_numpy(tokens).to(device)
    )
    trie.mask_inplace(scores, nodes.ravel(), depth=depth, tokens=tokens)
    assert (masked.cpu().numpy() == scores).all()


def search(both, step, device, k=5):
    """Run all steps of a search with seen items and candidates by a step of the mirror and by the trie."""
    trie = both.trie
    exclude, candidates = [[1, 2, 3, 150], None], [None, range(0, trie.n_ranks, 3)]
    ready = dict(exclude=both.mirror.rank_lists(exclude), candidates=both.mirror.rank_lists(candidates))
    scores, nodes = torch.zeros(2, 1, device=device), torch.zeros(2, 1, dtype=torch.int64, device=device)
    plain_scores, plain_nodes = scores.cpu().numpy(), nodes.cpu().numpy()
    for depth in range(trie.n_levels):
        log_probs = torch.randn(2, nodes.shape[1], 9, generator=torch.Generator().manual_seed(depth))
        scores, _, _, nodes = step(log_probs.to(device), scores, nodes, depth=depth, k=k, **ready)
        plain_scores, _, _, plain_nodes = trie.select(
            log_probs, plain_scores, plain_nodes, depth=depth, k=k, exclude=exclude, candidates=candidates
        )
        yield (scores, nodes), (plain_scores, plain_nodes)


class Mirrored:
    """A small trie and its mirror."""

    def __init__(self, device):
        codes = np.unique(np.random.default_rng(0).integers(0, 9, (300, 3)), axis=0)
        self.trie = semid.Trie.from_codes(codes)
        self.mirror = TorchTrie(self.trie).to(device)


@pytest.mark.parametrize("device", DEVICES)
def test_one_graph_without_breaks(device):
    both = Mirrored(device)
    step = torch.compile(both.mirror.select, backend="eager", fullgraph=True)
    for found, expected in search(both, step, device):
        for one, other in zip(found, expected, strict=True):
            assert (one.cpu().numpy() == other).all()


def test_compiled_for_every_depth_batch_and_kind_of_lists():
    """More graphs than the compiler makes of one function: 5 depths, batches of 1, 2 and 3, with and without lists."""
    codes = np.unique(np.random.default_rng(0).integers(0, 4, (200, 5)), axis=0)
    mirror = TorchTrie(semid.Trie.from_codes(codes, codebook_sizes=4))
    graphs = CompileCounter()
    step = mirror.compiled_select(backend=graphs, fullgraph=True)
    for batch in (1, 2, 3):
        for lists in (None, mirror.rank_lists([[4, 5]] * batch)):
            start, nodes = torch.zeros(batch, 1), torch.zeros(batch, 1, dtype=torch.int64)
            for depth in range(5):
                log_probs = torch.randn(batch, nodes.shape[1], 4, generator=torch.Generator().manual_seed(depth))
                found = step(log_probs, start, nodes, depth=depth, k=4, exclude=lists)
                expected = mirror.select(log_probs, start, nodes, depth=depth, k=4, exclude=lists)
                assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
                start, nodes = found[0], found[3]
    assert torch._dynamo.config.recompile_limit < graphs.frame_count <= 5 * torch._dynamo.config.recompile_limit
    with pytest.raises(InvalidValueError, match=r"expected 0 \.\. 4, got 5"):
        step(log_probs, start, nodes, depth=5, k=4)


def test_the_limit_of_graphs_can_be_raised():
    codes = np.unique(np.random.default_rng(0).integers(0, 4, (200, 5)), axis=0)
    mirror = TorchTrie(semid.Trie.from_codes(codes, codebook_sizes=4))

    def run():
        step = torch.compile(mirror.select, backend="eager", fullgraph=True)
        for batch in (1, 2, 3):
            for depth in range(5):
                start, nodes = torch.zeros(batch, 3), torch.zeros(batch, 3, dtype=torch.int64)
                step(torch.zeros(batch, 3, 4), start, nodes, depth=depth, k=4)

    try:
        torch._dynamo.reset()
        with pytest.raises(FailOnRecompileLimitHit):
            run()
        torch._dynamo.reset()
        with torch._dynamo.config.patch(recompile_limit=32):
            run()
    finally:
        torch._dynamo.reset()  # other tests compile the same function


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler, and there is none")
# torch.jit is deprecated, and the compiler of torch 2.13 still imports it.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_compiled_to_machine_code():
    both = Mirrored("cpu")
    step = torch.compile(both.mirror.select, fullgraph=True)
    found, expected = next(search(both, step, "cpu"))
    for one, other in zip(found, expected, strict=True):
        assert (one.numpy() == other).all()


def test_nothing_is_read_back_from_the_device():
    """Tensors on "meta" have a shape and no values: whoever waits for a value of theirs raises."""
    both = Mirrored("cpu")
    lists = RankTensors(*(part.to("meta") for part in both.mirror.rank_lists([[1, 2], None])))
    mirror = both.mirror.to("meta")
    log_probs, start = torch.empty(2, 4, 9, device="meta"), torch.empty(2, 4, device="meta")
    nodes = torch.empty(2, 4, dtype=torch.int64, device="meta")
    for depth in range(3):
        found = mirror.select(log_probs, start, nodes, depth=depth, k=6, exclude=lists, candidates=lists)
        assert all(part.shape == (2, 6) and part.device.type == "meta" for part in found)
        tokens = torch.arange(9, device="meta")
        masked = mirror.mask(torch.empty(8, 30, device="meta"), nodes.flatten(), depth=depth, tokens=tokens)
        assert masked.shape == (8, 30)


def test_wrong_arguments():
    mirror = TorchTrie(semid.Trie.from_codes([[0], [1]]))
    args = torch.zeros(1, 1, 2), torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64)
    with pytest.raises(InvalidValueError, match=r"expected 0 \.\. 0, got 1"):
        mirror.select(*args, depth=1, k=1)
    for lists in ([[0], [1]], mirror.rank_lists([[0], [1]])):
        with pytest.raises(InvalidValueError, match=r"wrong length: expected 1 lists of ranks, got 2\. Give one list"):
            mirror.select(*args, depth=0, k=1, exclude=lists)
    with pytest.raises(InvalidValueError, match=r"lists holds a rank out of range: expected 0 \.\. 1, got 2\."):
        mirror.rank_lists([[2]])
    with pytest.raises(InvalidTypeError, match="expected integers, got float64"):
        mirror.rank_lists([[0.5]])
    message = r"expected \(batch, beams, 2\) and \(batch, beams\), got \(1, 1, 1\) and \(1, 1\)"
    with pytest.raises(InvalidValueError, match=message):
        mirror.select(torch.zeros(1, 1, 1), *args[1:], depth=0, k=1)
    for tokens in ([0, 9], [-1, 0], [0]):
        with pytest.raises(
            InvalidValueError, match=r"tokens do not fit: expected 2 columns below 9, got shape .* or others"
        ):
            mirror.mask(torch.zeros(1, 9), torch.zeros(1, dtype=torch.int64), depth=0, tokens=torch.tensor(tokens))


STEP = {"log_probs": np.zeros((1, 2, 4), np.float32), "start": np.zeros((1, 2)), "nodes": np.zeros((1, 2), np.int64)}


@pytest.mark.parametrize(
    "change",
    [
        {"log_probs": np.zeros((1, 2, 6), np.float32)},
        {"log_probs": np.zeros((1, 2, 3), np.float32)},
        {"log_probs": np.zeros((2, 4), np.float32)},
        {"nodes": np.zeros((1, 3), np.int64)},
        {"start": np.zeros((1, 1))},
        {"start": np.zeros((2, 2))},
        {"k": 0},
        {"k": -1},
        {"k": True},
        {"k": 2.0},
        {"depth": True},
        {"depth": 1.0},
        {"depth": -1},
        {"depth": 2},
        {"exclude": [[0], [1]]},
        {"exclude": [[[0, 1], [2, 3]]]},
        {"exclude": [[4]]},
        {"candidates": [[0.5]]},
        {"candidates": 5},
        {"candidates": RankLists.of([[0]], n_items=9)},
    ],
    ids=lambda change: " ".join(f"{name} {getattr(value, 'shape', value)}" for name, value in change.items()),
)
def test_a_step_is_refused_as_the_trie_refuses_it(change):
    trie = semid.Trie.from_codes([[0, 2], [0, 3], [1, 2], [1, 3]], codebook_sizes=4)
    step = STEP | {"depth": 0, "k": 2} | change
    with pytest.raises((InvalidTypeError, InvalidValueError)) as expected:
        trie.select(**step)
    tensors = {name: torch.from_numpy(step[name]) for name in STEP}
    with pytest.raises(expected.type) as found:
        TorchTrie(trie).select(**step | tensors)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_nodes_and_tokens_are_integers(dtype):
    mirror = TorchTrie(semid.Trie.from_codes([[0], [1]]))
    row = torch.zeros(1, 2)
    message = f"nodes has a wrong dtype: expected integers, got {dtype}. Take them from walk or select."
    with pytest.raises(InvalidTypeError, match=message):
        mirror.select(torch.zeros(1, 1, 2), torch.zeros(1, 1), torch.zeros(1, 1, dtype=dtype), depth=0, k=1)
    with pytest.raises(InvalidTypeError, match=message):
        mirror.mask(row, torch.zeros(1, dtype=dtype), depth=0, tokens=torch.arange(2))
    with pytest.raises(InvalidTypeError, match=f"tokens has a wrong dtype: expected integers, got {dtype}"):
        mirror.mask(row, torch.zeros(1, dtype=torch.int64), depth=0, tokens=torch.zeros(2, dtype=dtype))
    tokens = torch.tensor([1, 0], dtype=torch.int16)
    assert mirror.mask(row, torch.tensor([0]), depth=0, tokens=tokens).tolist() == [[0, 0]]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("node", [-5, 1, 9, 2**32, 2**63 - 1])
def test_a_node_of_another_depth_has_no_children(device, node):
    """Refusing it, as the trie does, would wait for the device. 2^32 would be the root if it were cut to 32 bits."""
    trie = semid.Trie.from_codes([[0, 2], [0, 3], [1, 2]])
    with pytest.raises(InvalidValueError, match=r"nodes out of range: expected -1 \.\. 0 at depth 0"):
        trie.select(np.zeros((1, 1, 2)), [[0]], [[node]], depth=0, k=1)
    mirror, nodes = TorchTrie(trie).to(device), torch.tensor([[node]], device=device)
    zeros = torch.zeros(1, 1, 2, device=device)
    found = mirror.select(zeros, zeros[..., 0], nodes, depth=0, k=1)
    assert [part.tolist() for part in found] == [[[-np.inf]], [[-1]], [[-1]], [[-1]]]
    masked = mirror.mask(zeros[0], nodes[0], depth=0, tokens=torch.arange(2, device=device))
    assert masked.tolist() == [[-np.inf, -np.inf]]


def test_a_mask_has_a_row_of_scores_per_node():
    mirror = TorchTrie(semid.Trie.from_codes([[0], [1]]))
    tokens, node = torch.arange(2), torch.zeros(1, dtype=torch.int64)
    for scores, nodes in (
        (torch.zeros(2, 2), node),
        (torch.zeros(1, 2), node.repeat(2)),
        (torch.zeros(2), node),
        (torch.zeros(1, 2), node[None]),
    ):
        with pytest.raises(InvalidValueError, match=r"expected \(rows, vocabulary\) and \(rows,\), got .*per node"):
            mirror.mask(scores, nodes, depth=0, tokens=tokens)
    with pytest.raises(InvalidTypeError, match=r"scores have a wrong dtype: expected floating point, got torch\.int64"):
        mirror.mask(torch.zeros(1, 2, dtype=torch.int64), node, depth=0, tokens=tokens)
