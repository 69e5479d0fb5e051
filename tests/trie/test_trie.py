"""The trie against dictionaries and scans, on every back end."""

import pickle
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import children_oracle, mask_oracle, nodes_oracle, select_oracle

import semid
from semid.errors import FormatError, InvalidTypeError, InvalidValueError

SHARED_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
CODES = np.array([[0, 2, 1], [0, 3, 0], [1, 2, 0], [1, 2, 5]], np.uint8)


@st.composite
def catalogues(draw):
    """Distinct codes in random order, with the codebook sizes they were drawn from."""
    sizes = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 7, 300]), min_size=1, max_size=5)))
    row = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    return np.array(draw(st.lists(row, min_size=1, max_size=40, unique=True))), sizes


def prefixes_of(codes):
    return {tuple(sid[:depth].tolist()) for sid in codes for depth in range(codes.shape[1] + 1)}


@SHARED_FIXTURE
@given(catalogue=catalogues())
def test_children_and_nodes_agree_with_a_scan(backend, catalogue):
    codes, sizes = catalogue
    trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    assert (trie.n_items, trie.n_levels, trie.codebook_sizes) == (len(codes), len(sizes), sizes)
    for prefix in prefixes_of(codes):
        assert trie.children(prefix).tolist() == sorted(children_oracle(codes, prefix))
        rows = np.array(prefix, np.int64)[None]
        assert trie.walk(rows).tolist() == [nodes_oracle(codes, len(prefix))[prefix]]


@SHARED_FIXTURE
@given(catalogue=catalogues(), seed=st.integers(0, 2**16))
def test_walk_gives_minus_one_off_the_catalogue(backend, catalogue, seed):
    codes, sizes = catalogue
    trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(0, len(sizes) + 1))
    rows = rng.integers(-2, max(sizes) + 2, (50, depth))
    known = nodes_oracle(codes, depth)
    assert trie.walk(rows).tolist() == [known.get(tuple(row.tolist()), -1) for row in rows]


@SHARED_FIXTURE
@given(catalogue=catalogues())
def test_rank_and_codes_of_are_inverse_and_lexicographic(backend, catalogue):
    codes, sizes = catalogue
    trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    ordered = np.array(sorted(map(tuple, codes.tolist())))
    assert (trie.rank(ordered) == np.arange(len(codes))).all()
    assert (trie.codes_of(np.arange(len(codes))) == ordered).all()
    assert trie.codes_of(0).tolist() == ordered[0].tolist()
    assert trie.rank(tuple(ordered[-1])) == len(codes) - 1


@SHARED_FIXTURE
@given(catalogue=catalogues(), seed=st.integers(0, 2**16), k=st.integers(1, 12), excluded=st.integers(0, 40))
def test_select_agrees_with_sorting_everything(backend, catalogue, seed, k, excluded):
    codes, sizes = catalogue
    trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(0, len(sizes)))
    batch, beams = 3, 4
    known = sorted(nodes_oracle(codes, depth))
    nodes = rng.integers(-1, len(known), (batch, beams))
    # Few distinct values make ties common.
    log_probs = rng.integers(-3, 1, (batch, beams, sizes[depth])).astype(np.float32)
    start = rng.integers(-3, 1, (batch, beams)).astype(np.float32)
    exclude = [rng.integers(0, len(codes), excluded) for _ in range(batch)]
    out = trie.select(log_probs, start, nodes, depth=depth, k=k, exclude=exclude)
    reached = nodes_oracle(codes, depth + 1)
    for request in range(batch):
        prefixes = [known[node] if node >= 0 else None for node in nodes[request]]
        expected = select_oracle(codes, prefixes, log_probs[request], start[request], k, exclude[request].tolist())
        filled = len(expected)
        assert out.scores[request, :filled].tolist() == [entry[0] for entry in expected]
        assert out.rows[request, :filled].tolist() == [entry[1] for entry in expected]
        assert out.codes[request, :filled].tolist() == [entry[2] for entry in expected]
        assert out.nodes[request, :filled].tolist() == [reached[entry[3]] for entry in expected]
        assert (out.scores[request, filled:] == -np.inf).all() and (out.nodes[request, filled:] == -1).all()
        assert (out.rows[request, filled:] == -1).all() and (out.codes[request, filled:] == -1).all()


def test_select_never_takes_a_child_of_infinite_or_undefined_score(backend):
    trie = semid.Trie.from_codes(CODES)
    log_probs = np.array([[[-np.inf, np.nan]]], np.float32)
    out = trie.select(log_probs, np.zeros((1, 1)), np.zeros((1, 1), int), depth=0, k=2)
    assert (out.nodes == -1).all() and (out.scores == -np.inf).all()


@SHARED_FIXTURE
@given(catalogue=catalogues(), seed=st.integers(0, 2**16), dtype=st.sampled_from([np.float32, np.float64]))
def test_mask_keeps_only_children(backend, catalogue, seed, dtype):
    codes, sizes = catalogue
    trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(0, len(sizes)))
    tokens = rng.permutation(sizes[depth] + 5)[: sizes[depth]]  # in no order, with other tokens between
    known = sorted(nodes_oracle(codes, depth))
    nodes = rng.integers(-1, len(known), 6)
    scores = rng.standard_normal((6, sizes[depth] + 5)).astype(dtype)
    expected = np.full_like(scores, -np.inf)
    alive = nodes >= 0
    expected[alive] = mask_oracle(codes, [known[node] for node in nodes[alive]], scores[alive], tokens)
    trie.mask_inplace(scores, nodes, depth=depth, tokens=tokens)
    assert (scores == expected).all()


def test_allowed_lists_the_children_of_each_row(backend):
    trie = semid.Trie.from_codes(CODES)
    row_starts, codes = trie.allowed([1, -1, 0, 2], depth=2)  # prefixes (0, 3), none, (0, 2), (1, 2)
    assert row_starts.tolist() == [0, 1, 1, 2, 4]
    assert codes.tolist() == [0, 1, 0, 5]
    assert [trie.widest(depth) for depth in range(3)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("sizes", "n_items"),
    [((256,) * 4, 5_000), ((65_536, 3), 5_000), ((2,) * 8, 256), ((70_000, 70_000, 5), 800), ((2048,) * 8, 900)],
)
def test_all_shapes(backend, rng, sizes, n_items):
    """Keys of 32 and 64 bits, keys that do not fit, every code dtype, and a full tree."""
    codes = np.stack([rng.integers(0, size, 2 * n_items) for size in sizes], axis=1)
    codes = rng.permutation(np.unique(codes, axis=0))
    trie = semid.Trie.from_codes(codes, codebook_sizes=sizes)
    ranks = trie.rank(codes)
    assert sorted(ranks.tolist()) == list(range(len(codes)))
    assert (trie.codes_of(ranks) == codes).all()
    assert trie.codes_of(ranks).dtype == np.min_scalar_type(max(sizes) - 1)


def test_one_item(backend):
    trie = semid.Trie.from_codes([[7]])
    assert (trie.n_items, trie.rank([7]), trie.children(()).tolist(), trie.children((7,)).tolist()) == (1, 0, [7], [])
    assert trie.children((3,)).tolist() == []


def test_equal_rows_become_one_item_and_say_so():
    with pytest.warns(semid.trie.DuplicateCodesWarning, match=r"1 of 5 rows repeat another row: the trie has 4 items"):
        trie = semid.Trie.from_codes(np.concatenate([CODES, CODES[:1]]))
    assert trie.n_items == 4


def test_a_trie_does_not_change():
    trie = semid.Trie.from_codes(CODES)
    with pytest.raises(AttributeError, match="a Trie is immutable: 'n_items' cannot be set"):
        trie.n_items = 5
    with pytest.raises(ValueError, match="read-only"):
        trie._levels.starts[0] = 1


def test_pickle_save_and_load_keep_everything(tmp_path, backend):
    trie = semid.Trie.from_codes(CODES, codebook_sizes=(2, 4, 6))
    trie.save(tmp_path / "trie.safetensors")
    others = [
        pickle.loads(pickle.dumps(trie)),
        semid.Trie.load(tmp_path / "trie.safetensors"),
        semid.Trie.load(tmp_path / "trie.safetensors", mmap=True),
    ]
    for other in others:
        assert other.codebook_sizes == (2, 4, 6) and repr(other) == repr(trie)
        assert (other.rank(CODES) == trie.rank(CODES)).all()
        assert other.children((1, 2)).tolist() == [0, 5]
    assert isinstance(others[2]._levels.starts, np.memmap)


def test_threads_share_a_trie(backend, rng):
    codes = np.unique(rng.integers(0, 64, (20_000, 3)), axis=0)
    trie = semid.Trie.from_codes(codes)
    wrong = []

    def work():
        for _ in range(20):
            if not (trie.walk(codes) == np.arange(len(codes))).all():
                wrong.append(True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("codes", "error", "message"),
    [
        (np.empty((0, 3), int), InvalidValueError, r"codes is empty: expected at least 1 item, got 0"),
        ([1, 2], InvalidValueError, r"expected \(n_items, n_levels\), got \(2,\)"),
        ([[0.5]], InvalidTypeError, r"expected integers, got float64"),
        ([[0, 1], [0, -1]], InvalidValueError, r"got -1 at row 1, level 1"),
    ],
)
def test_bad_codes(codes, error, message):
    with pytest.raises(error, match=message):
        semid.Trie.from_codes(codes)


def test_codes_beyond_their_codebook():
    with pytest.raises(InvalidValueError, match=r"expected codes below 4 at level 2, got 5"):
        semid.Trie.from_codes(CODES, codebook_sizes=(2, 4, 4))
    with pytest.raises(InvalidValueError, match=r"expected 3 sizes, got 2"):
        semid.Trie.from_codes(CODES, codebook_sizes=(2, 4))


def test_bad_questions():
    trie = semid.Trie.from_codes(CODES)
    zeros = np.zeros((1, 1))
    cases = [
        (lambda: trie.walk([[0, 2, 1, 0]]), r"expected \(\.\.\., at most 3\), got \(1, 4\)"),
        (lambda: trie.rank([0, 2]), r"expected 3 levels, got shape \(2,\)"),
        (lambda: trie.codes_of([4]), r"expected 0 \.\. 3, got 4"),
        (lambda: trie.allowed([9], depth=1), r"expected -1 \.\. 1 at depth 1, got 0 \.\. 9"),
        (lambda: trie.allowed([0], depth=3), r"expected 0 \.\. 2, got 3\. Leaves have no children"),
        (lambda: trie.select(np.zeros((1, 1, 9)), zeros, [[0]], depth=0, k=1), r"expected \(batch, beams, 2\)"),
        (lambda: trie.select(np.zeros((1, 1, 2)), [[0, 0]], [[0]], depth=0, k=1), r"expected \(1, 1\), got \(1, 2\)"),
        (lambda: trie.select(np.zeros((1, 1, 2)), zeros, [[0]], depth=0, k=0), r"expected at least 1, got 0"),
        (
            lambda: trie.select(np.zeros((1, 1, 2)), zeros, [[0]], depth=0, k=1, exclude=[[1], [2]]),
            r"expected 1 lists of ranks, got 2",
        ),
        (
            lambda: trie.select(np.zeros((1, 1, 2)), zeros, [[0]], depth=0, k=1, exclude=[[4]]),
            r"expected 0 \.\. 3, got 4 \.\. 4",
        ),
        (
            lambda: trie.mask_inplace(np.zeros((1, 2)), [0], depth=1, tokens=[0, 1, 2, 3]),
            r"expected 4 columns below 2, got shape \(4,\) with largest 3",
        ),
        (
            lambda: trie.mask_inplace(np.zeros((2, 9)), [0], depth=1, tokens=[0, 1, 2, 3]),
            r"expected \(1, vocabulary\), got \(2, 9\)",
        ),
    ]
    for call, message in cases:
        with pytest.raises(InvalidValueError, match=message):
            call()
    with pytest.raises(InvalidTypeError, match="expected integers, got float64"):
        trie.walk([[0.0]])


def test_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "trie.safetensors"
    trie = semid.Trie.from_codes(CODES)
    with pytest.raises(FormatError, match="expected a safetensors file, got none"):
        semid.Trie.load(path)
    trie.save(path)
    whole = path.read_bytes()
    for mmap in (False, True):
        path.write_bytes(whole[:-3])
        with pytest.raises(FormatError, match=r"is damaged: expected a complete file, got \d+ bytes where"):
            semid.Trie.load(path, mmap=mmap)
    path.write_bytes(b"not a trie at all")
    with pytest.raises(FormatError, match="is damaged: expected a complete file"):
        semid.Trie.load(path)
    semid.io.persistence.write_tensors(path, {"a": np.zeros(3)}, metadata={"class": "Other"})
    with pytest.raises(FormatError, match="expected class Trie, format 1, got Other"):
        semid.Trie.load(path)


def test_the_fingerprint_travels(tmp_path):
    trie = semid.Trie.from_codes(CODES, fingerprint="ab12")
    trie.save(tmp_path / "trie.safetensors")
    assert semid.Trie.load(tmp_path / "trie.safetensors", mmap=True).fingerprint == "ab12"
    assert pickle.loads(pickle.dumps(trie)).fingerprint == "ab12"
    assert semid.Trie.from_codes(CODES).fingerprint is None
